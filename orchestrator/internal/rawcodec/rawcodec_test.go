package rawcodec_test

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
)

func TestMessagesPassThrough(t *testing.T) {
	codec := rawcodec.New()
	message := rawcodec.Message("not protobuf")
	for _, sent := range []any{message, &message} {
		data, err := codec.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		var received rawcodec.Message
		if err := codec.Unmarshal(data, &received); err != nil || string(received) != string(message) {
			t.Errorf("a %T was received as %q, %v", sent, received, err)
		}
	}
	var received rawcodec.Message
	if err := codec.Unmarshal(nil, &received); err != nil || len(received) != 0 {
		t.Errorf("an empty message was received as %q, %v", received, err)
	}
}

func TestReceivedBytesBelongToTheReceiver(t *testing.T) {
	buffer := []byte("reused by the transport")
	var received rawcodec.Message
	if err := rawcodec.New().Unmarshal(mem.BufferSlice{mem.SliceBuffer(buffer)}, &received); err != nil {
		t.Fatal(err)
	}
	clear(buffer)
	if string(received) != "reused by the transport" {
		t.Errorf("the message changed to %q", received)
	}
}

func TestOtherMessagesAreProtobuf(t *testing.T) {
	codec := rawcodec.New()
	data, err := codec.Marshal(wrapperspb.String("hello"))
	if err != nil {
		t.Fatal(err)
	}
	var received wrapperspb.StringValue
	if err := codec.Unmarshal(data, &received); err != nil || received.GetValue() != "hello" {
		t.Errorf("received %v, %v", &received, err)
	}
	if _, err := codec.Marshal("a string"); err == nil {
		t.Error("Marshal of a string succeeded")
	}
	if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer("\xff")}, &received); err == nil {
		t.Error("Unmarshal of bytes that aren't protobuf succeeded")
	}
}
