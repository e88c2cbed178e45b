// Makes calls with AWS's own client for Node.js, one after another: a JSON list of {operation, input} comes in
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
const answers = [];
for (const { operation, input } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    const { $metadata, ...answer } = await client.send(new sdk[`${operation}Command`](input));
    answers.push({ ok: true, status: $metadata.httpStatusCode, members: Object.keys(answer) });
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
