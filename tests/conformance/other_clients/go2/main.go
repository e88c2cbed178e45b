// The main job through AWS's second SDK for Go, whose deserialisers are strict about types: prints the job's
// status.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/voiceid"
	"github.com/aws/aws-sdk-go-v2/service/voiceid/types"
)

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	client := voiceid.New(voiceid.Options{
		Region:           os.Getenv("AWS_REGION"),
		Credentials:      credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
		EndpointResolver: voiceid.EndpointResolverFromURL(os.Getenv("VOICE_ID_ENDPOINT")),
	})

	made, err := client.CreateDomain(ctx, &voiceid.CreateDomainInput{
		Name:                              aws.String("go-2"),
		ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{KmsKeyId: aws.String(os.Getenv("KEY"))},
	})
	check(err)
	started, err := client.StartSpeakerEnrollmentJob(ctx, &voiceid.StartSpeakerEnrollmentJobInput{
		DomainId:          made.Domain.DomainId,
		DataAccessRoleArn: aws.String(os.Getenv("ROLE")),
		InputDataConfig:   &types.InputDataConfig{S3Uri: aws.String(os.Getenv("MANIFEST"))},
		OutputDataConfig:  &types.OutputDataConfig{S3Uri: aws.String(os.Getenv("RESULTS")), KmsKeyId: aws.String(os.Getenv("KEY"))},
	})
	check(err)
	for {
		found, err := client.DescribeSpeakerEnrollmentJob(ctx, &voiceid.DescribeSpeakerEnrollmentJobInput{
			DomainId: made.Domain.DomainId, JobId: started.Job.JobId,
		})
		check(err)
		if found.Job.EndedAt != nil {
			fmt.Println(*found.Job.JobId, found.Job.JobStatus)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
