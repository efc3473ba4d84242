package paging_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/services/internal/paging"
)

func TestParse(t *testing.T) {
	first, err := paging.Parse(0, "", "customers/1")
	if err != nil || first.Size != paging.DefaultSize || first.After != 0 {
		t.Fatalf("the first page: %+v, %v", first, err)
	}
	token := first.Next(42)
	next, err := paging.Parse(5000, token, "customers/1")
	if err != nil || next.Size != paging.MaxSize || next.After != 42 {
		t.Errorf("the next page: %+v, %v", next, err)
	}
	for name, parse := range map[string]func() (paging.Page, error){
		"negative size":    func() (paging.Page, error) { return paging.Parse(-1, "", "") },
		"not a token":      func() (paging.Page, error) { return paging.Parse(0, "%%", "") },
		"too short":        func() (paging.Page, error) { return paging.Parse(0, "AAAA", "") },
		"other conditions": func() (paging.Page, error) { return paging.Parse(0, token, "customers/2") },
	} {
		if _, err := parse(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want INVALID_ARGUMENT", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(int32(10), paging.Page{}.Next(7), "")
	f.Fuzz(func(t *testing.T, size int32, token, condition string) {
		p, err := paging.Parse(size, token, condition)
		if err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%v, want INVALID_ARGUMENT", err)
			}
			return
		}
		if p.Size < 1 || p.Size > paging.MaxSize || p.After < 0 {
			t.Errorf("Parse(%d, %q): %+v", size, token, p)
		}
	})
}
