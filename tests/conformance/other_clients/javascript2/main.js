// The main job through AWS's second SDK for JavaScript: prints the job's status.
const { createRequire } = require("node:module");
const { join } = require("node:path");

process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
const AWS = createRequire(join(process.env.NODE_MODULES_OF, "package.json"))("aws-sdk");
const { AWS_REGION, VOICE_ID_ENDPOINT, KEY, ROLE, MANIFEST, RESULTS } = process.env;

async function main() {
  const client = new AWS.VoiceID({ region: AWS_REGION, endpoint: VOICE_ID_ENDPOINT });
  const made = await client
    .createDomain({ Name: "javascript-2", ServerSideEncryptionConfiguration: { KmsKeyId: KEY } })
    .promise();
  const DomainId = made.Domain.DomainId;
  const started = await client
    .startSpeakerEnrollmentJob({
      DomainId,
      DataAccessRoleArn: ROLE,
      InputDataConfig: { S3Uri: MANIFEST },
      OutputDataConfig: { S3Uri: RESULTS, KmsKeyId: KEY },
    })
    .promise();
  for (;;) {
    const { Job } = await client.describeSpeakerEnrollmentJob({ DomainId, JobId: started.Job.JobId }).promise();
    if (Job.EndedAt) {
      console.log(Job.JobId, Job.JobStatus);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
