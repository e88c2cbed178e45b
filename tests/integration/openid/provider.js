// A provider on loopback: node provider.js PORT RETURN_URL. Whoever gives a name signs in as it; the group is the
// part before the point.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [port, returnUrl] = process.argv.slice(2);
const find = createRequire(`${process.env.NODE_MODULES_OF}/`);
const { Provider } = await import(pathToFileURL(find.resolve('oidc-provider')).href);

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'console',
    client_secret: 'secret-of-the-client',
    redirect_uris: [returnUrl],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  claims: { openid: ['sub', 'groups', 'preferred_username'] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  cookies: { keys: ['of a test'] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, groups: [id.split('.')[0]] }),
  }),
});
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'));
