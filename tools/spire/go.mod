module github.com/treatyhq/treaty/tools/spire

go 1.26.8
