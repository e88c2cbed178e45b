// Makes calls with AWS's own client for Node.js, one after another: a JSON list of {operation, input, own} comes in
// on standard input; a list of {ok, error, status, members} goes out.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_MODULES_OF, "package.json"));
const sdk = require("@aws-sdk/client-voice-id");

const client = new sdk.VoiceIDClient({
  region: process.env.AWS_REGION,
  endpoint: process.env.VOICE_ID_ENDPOINT,
  maxAttempts: 1,
});

// Sonant's own operations are not in the client's generated code. Everything but their name and members is: they
// go out as another command, changed before it is signed, and their answer is read before that command reads it.
function ownCommand(operation, input, seen) {
  const command = new sdk.DescribeDomainCommand({ DomainId: "AbCdEfGhIjKlMnOpQrStUv" });
  command.middlewareStack.add(
    (next) => (args) => {
      args.request.headers["x-amz-target"] = `Sonant.${operation}`;
      args.request.body = JSON.stringify(input);
      return next(args);
    },
    { step: "build", priority: "high", name: "ownRequest" },
  );
  command.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const chunks = [];
      for await (const chunk of result.response.body) chunks.push(chunk);
      const body = Buffer.concat(chunks);
      result.response.body = new Uint8Array(body);
      seen.members = Object.keys(JSON.parse(body));
      return result;
    },
    { step: "deserialize", priority: "low", name: "ownAnswer" },
  );
  return command;
}

const answers = [];
for (const { operation, input, own } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    const seen = {};
    const command = own ? ownCommand(operation, input, seen) : new sdk[`${operation}Command`](input);
    const { $metadata, ...answer } = await client.send(command);
    answers.push({ ok: true, status: $metadata.httpStatusCode, members: seen.members ?? Object.keys(answer) });
  } catch (error) {
    answers.push({
      ok: false,
      error: error.name,
      status: error.$metadata?.httpStatusCode,
      modelled: error instanceof sdk.VoiceIDServiceException && error.constructor.name === error.name,
      message: error.message,
      detail: error.ConflictType ?? error.ResourceType ?? null,
    });
  }
}
console.log(JSON.stringify(answers));
