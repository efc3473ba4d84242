package server

import "testing"

func TestTokenIsValidForOneList(t *testing.T) {
	here, there := newPageList("sagas", "a", "b"), newPageList("sagas", "a", "c")
	want := pagePosition{id: "s01", number: 1767323045000006}
	got, err := parseToken(want.token(here), here)
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if got, err := parseToken(want.token(here), there); err == nil {
		t.Errorf("another list's token is read as %+v", got)
	}
}

// A token that is accepted encodes the position that it is decoded to.
func FuzzToken(f *testing.F) {
	list := newPageList("sagas", "", "")
	f.Add(pagePosition{id: "s01", number: 1}.token(list))
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, token string) {
		at, err := parseToken(token, list)
		if err == nil && at.token(list) != token {
			t.Errorf("%q is read as %+v, which is %q", token, at, at.token(list))
		}
	})
}
