// Tags photos with NVIDIA Triton from Go, without any code of labelwise:
//
//	tag HOST:PORT MODEL PHOTO…
//
// Prints the three best labels of each photo. The ensemble takes the files as they are and decodes them itself.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pb "labelwise.example/tag/inference"
)

const best = 3

// pack lays out a BYTES tensor: each element follows its length, a little-endian uint32.
func pack(elements [][]byte) []byte {
	var raw []byte
	for _, element := range elements {
		raw = append(raw, make([]byte, 4)...)
		binary.LittleEndian.PutUint32(raw[len(raw)-4:], uint32(len(element)))
		raw = append(raw, element...)
	}
	return raw
}

func unpack(raw []byte) []string {
	var elements []string
	for len(raw) >= 4 {
		end := 4 + binary.LittleEndian.Uint32(raw)
		elements = append(elements, string(raw[4:end]))
		raw = raw[end:]
	}
	return elements
}

// tag returns the best labels of each photo as score:index:label. It takes at most max_batch_size photos.
func tag(client pb.GRPCInferenceServiceClient, model string, photos [][]byte) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	classes := &pb.InferParameter{ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: best}}
	response, err := client.ModelInfer(ctx, &pb.ModelInferRequest{
		ModelName: model,
		Inputs: []*pb.ModelInferRequest_InferInputTensor{
			{Name: "IMAGE", Datatype: "BYTES", Shape: []int64{int64(len(photos)), 1}},
		},
		Outputs: []*pb.ModelInferRequest_InferRequestedOutputTensor{
			{Name: "scores", Parameters: map[string]*pb.InferParameter{"classification": classes}},
		},
		RawInputContents: [][]byte{pack(photos)},
	})
	if err != nil {
		return nil, err
	}
	return unpack(response.RawOutputContents[0]), nil
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 4 {
		log.Print("usage: tag HOST:PORT MODEL PHOTO…")
		os.Exit(2)
	}
	var photos [][]byte
	for _, name := range os.Args[3:] {
		photo, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		photos = append(photos, photo)
	}
	// One connection for all requests; gRPC's own limit of 4 MiB per answer is too small for embeddings.
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	texts, err := tag(pb.NewGRPCInferenceServiceClient(connection), os.Args[2], photos)
	if err != nil {
		log.Fatal(status.Convert(err).Message()) // which image of the batch is broken, and why
	}
	for at, name := range os.Args[3:] {
		fmt.Print(name)
		for _, text := range texts[at*best : (at+1)*best] {
			parts := strings.SplitN(text, ":", 3)
			fmt.Printf("\t%s %.5s", parts[2], parts[0])
		}
		fmt.Println()
	}
}
