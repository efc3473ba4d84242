package server

import "testing"

func TestTokenIsGoodForOneListOnly(t *testing.T) {
	here, there := tokenScope("sagas", "a", "b"), tokenScope("sagas", "a", "c")
	want := position{id: "s01", number: 1767323045000006}
	got, err := parseToken(want.token(here), here)
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if got, err := parseToken(want.token(here), there); err == nil {
		t.Errorf("another list's token is read as %+v", got)
	}
}

// A token is read only as what it was made of.
func FuzzToken(f *testing.F) {
	scope := tokenScope("sagas", "", "")
	f.Add(position{id: "s01", number: 1}.token(scope))
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, token string) {
		at, err := parseToken(token, scope)
		if err == nil && at.token(scope) != token {
			t.Errorf("%q is read as %+v, which is %q", token, at, at.token(scope))
		}
	})
}
