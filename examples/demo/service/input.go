package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"unicode/utf8"
)

// The kinds of file.
const (
	kindGo     = "go"
	kindText   = "text"
	kindBinary = "binary"
)

// input is a run's file, read and parsed when a step first needs it: a run that continues in the middle needs only
// its path.
type input struct {
	root      fs.FS
	path      string
	positions *token.FileSet
	read      []byte
	parsed    *ast.File
}

func newInput(root, path string) *input {
	return &input{root: os.DirFS(root), path: path, positions: token.NewFileSet()}
}

func (in *input) size() (int64, error) {
	info, err := fs.Stat(in.root, in.path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (in *input) content() (_ []byte, err error) {
	if in.read == nil {
		in.read, err = fs.ReadFile(in.root, in.path)
	}
	return in.read, err
}

func (in *input) syntax() (*ast.File, error) {
	if in.parsed != nil {
		return in.parsed, nil
	}
	content, err := in.content()
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseFile(in.positions, in.path, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	in.parsed = file
	return file, nil
}

func kind(name string, content []byte) string {
	switch {
	case path.Ext(name) == ".go":
		return kindGo
	case utf8.Valid(content) && bytes.IndexByte(content, 0) < 0:
		return kindText
	}
	return kindBinary
}

func measureLines(content []byte) (lines, longestBytes int) {
	for line := range bytes.Lines(content) {
		lines++
		longestBytes = max(longestBytes, len(bytes.TrimRight(line, "\r\n")))
	}
	return lines, longestBytes
}

func measureGo(positions *token.FileSet, file *ast.File, f *facts) {
	f.Package, f.Imports, f.Generated = file.Name.Name, len(file.Imports), ast.IsGenerated(file)
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		f.Funcs++
		if function.Name.IsExported() && function.Doc == nil {
			f.Undocumented++
		}
		// Not PositionFor's adjusted lines: a //line comment may say anything.
		first, last := positions.PositionFor(function.Pos(), false), positions.PositionFor(function.End(), false)
		f.LongestFuncLines = max(f.LongestFuncLines, last.Line-first.Line+1)
	}
}
