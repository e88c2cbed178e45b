// The main job through AWS's first SDK for Go: prints the job's status.
package main

import (
	"fmt"
	"log"
	"os"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/voiceid"
)

func main() {
	log.SetFlags(0)
	chosen := aws.NewConfig().WithEndpoint(os.Getenv("VOICE_ID_ENDPOINT"))
	client := voiceid.New(session.Must(session.NewSession(chosen)))

	made, err := client.CreateDomain(&voiceid.CreateDomainInput{
		Name:                              aws.String("go-1"),
		ServerSideEncryptionConfiguration: &voiceid.ServerSideEncryptionConfiguration{KmsKeyId: aws.String(os.Getenv("KEY"))},
	})
	check(err)
	started, err := client.StartSpeakerEnrollmentJob(&voiceid.StartSpeakerEnrollmentJobInput{
		DomainId:          made.Domain.DomainId,
		DataAccessRoleArn: aws.String(os.Getenv("ROLE")),
		InputDataConfig:   &voiceid.InputDataConfig{S3Uri: aws.String(os.Getenv("MANIFEST"))},
		OutputDataConfig:  &voiceid.OutputDataConfig{S3Uri: aws.String(os.Getenv("RESULTS")), KmsKeyId: aws.String(os.Getenv("KEY"))},
	})
	check(err)
	for {
		found, err := client.DescribeSpeakerEnrollmentJob(&voiceid.DescribeSpeakerEnrollmentJobInput{
			DomainId: made.Domain.DomainId, JobId: started.Job.JobId,
		})
		check(err)
		if found.Job.EndedAt != nil {
			fmt.Println(*found.Job.JobId, *found.Job.JobStatus)
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
