// Watchlists through AWS's second SDK for Go, which takes a JSON boolean for a boolean and nothing else: prints
// whether a new one is the default one, and whether that is.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

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
	list, err := client.CreateWatchlist(ctx, &voiceid.CreateWatchlistInput{
		DomainId: made.Domain.DomainId, Name: aws.String("fraudsters"),
	})
	check(err)
	for _, id := range []*string{list.Watchlist.WatchlistId, made.Domain.WatchlistDetails.DefaultWatchlistId} {
		found, err := client.DescribeWatchlist(ctx, &voiceid.DescribeWatchlistInput{
			DomainId: made.Domain.DomainId, WatchlistId: id,
		})
		check(err)
		fmt.Println(found.Watchlist.DefaultWatchlist)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
