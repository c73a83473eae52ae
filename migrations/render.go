package migrations

import (
	"bytes"
	"io"
	"io/fs"
)

// rendered is a file system whose SQL files are changed as they are read.
type rendered struct {
	fs.FS
	change func(sql string) string
}

func (r rendered) Open(name string) (fs.File, error) {
	f, err := r.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err
	}
	defer func() { _ = f.Close() }()
	sql, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	text := []byte(r.change(string(sql)))
	return &renderedFile{Reader: bytes.NewReader(text), info: sized{info, int64(len(text))}}, nil
}

type renderedFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *renderedFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *renderedFile) Close() error               { return nil }

type sized struct {
	fs.FileInfo
	size int64
}

func (s sized) Size() int64 { return s.size }
