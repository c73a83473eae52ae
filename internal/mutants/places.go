package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mutant is one change of a file's text.
type mutant struct {
	of         *target
	file       string
	line       int
	from, to   int // offsets of what is replaced
	was, by    string
	restOfFile []byte // the whole text, unchanged
}

func (m mutant) String() string {
	name, err := filepath.Rel(m.of.root, m.file)
	if err != nil {
		name = m.file
	}
	return fmt.Sprintf("%s:%d: %s  →  %s", name, m.line, short(m.was), short(m.by))
}

// text is the file with the change.
func (m mutant) text() []byte {
	changed := append([]byte{}, m.restOfFile[:m.from]...)
	changed = append(changed, m.by...)
	return append(changed, m.restOfFile[m.to:]...)
}

func short(text string) string {
	const most = 70
	if text = strings.Join(strings.Fields(text), " "); len(text) > most {
		text = text[:most] + "…"
	}
	if text == "" {
		return "nothing"
	}
	return text
}

// source is a file while its places are looked for.
type source struct {
	of    *target
	name  string
	text  []byte
	files *token.FileSet
	found []mutant
}

// mutantsOf returns every change that is made in one file.
func mutantsOf(of *target, name string) ([]mutant, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	s := &source{of: of, name: name, text: text, files: token.NewFileSet()}
	tree, err := parser.ParseFile(s.files, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if _, imports := n.(*ast.ImportSpec); imports {
			return false
		}
		if field, ok := n.(*ast.Field); ok && field.Tag != nil {
			return false
		}
		s.visit(n)
		return true
	})
	return s.found, nil
}

func (s *source) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.IfStmt:
		s.negate(n.Cond)
	case *ast.CaseClause:
		for _, e := range n.List {
			if _, compares := e.(*ast.BinaryExpr); compares {
				s.negate(e)
			}
		}
		s.drop(n.Body...)
	case *ast.CommClause:
		s.drop(n.Body...)
	case *ast.BinaryExpr:
		s.operator(n)
	case *ast.BlockStmt:
		s.drop(n.List...)
	case *ast.Ident:
		s.word(n, map[string]string{"true": "false", "false": "true", "min": "max", "max": "min"})
	case *ast.BasicLit:
		s.literal(n)
	}
}

// add notes a change of the text between two positions.
func (s *source) add(from, to token.Pos, by string) {
	file := s.files.File(from)
	a, b := file.Offset(from), file.Offset(to)
	s.found = append(s.found, mutant{
		of: s.of, file: s.name, line: file.Line(from), from: a, to: b, was: string(s.text[a:b]), by: by, restOfFile: s.text,
	})
}

func (s *source) textOf(n ast.Node) string {
	file := s.files.File(n.Pos())
	return string(s.text[file.Offset(n.Pos()):file.Offset(n.End())])
}

// negate inverts a condition, except a check of an error: every test finds that.
func (s *source) negate(cond ast.Expr) {
	if !aboutError(cond) {
		s.add(cond.Pos(), cond.End(), "!("+s.textOf(cond)+")")
	}
}

// aboutError reports a comparison of an error with nil.
func aboutError(e ast.Expr) bool {
	b, ok := e.(*ast.BinaryExpr)
	if !ok {
		return false
	}
	left, isIdent := b.X.(*ast.Ident)
	right, isNil := b.Y.(*ast.Ident)
	return isIdent && isNil && left.Name == "err" && right.Name == "nil"
}

// otherOperators are the mistakes for each operator.
var otherOperators = map[token.Token]string{
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">", token.EQL: "!=", token.NEQ: "==",
	token.ADD: "-", token.SUB: "+", token.MUL: "/", token.QUO: "*",
}

func (s *source) operator(b *ast.BinaryExpr) {
	if aboutError(b) {
		return
	}
	if b.Op == token.LAND || b.Op == token.LOR {
		s.add(b.Pos(), b.End(), s.textOf(b.X))
		s.add(b.Pos(), b.End(), s.textOf(b.Y))
		return
	}
	if other := otherOperators[b.Op]; other != "" {
		s.add(b.OpPos, b.OpPos+token.Pos(len(b.Op.String())), other)
	}
}

// drop leaves out each statement that has only an effect and no result.
func (s *source) drop(statements ...ast.Stmt) {
	for _, statement := range statements {
		switch n := statement.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt:
			s.add(n.Pos(), n.End(), "")
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				s.add(n.Pos(), n.End(), "")
			}
		}
	}
}

func (s *source) word(n *ast.Ident, others map[string]string) {
	if other := others[n.Name]; other != "" {
		s.add(n.Pos(), n.End(), other)
	}
}

func (s *source) literal(n *ast.BasicLit) {
	switch n.Kind {
	case token.INT:
		if value, err := strconv.Atoi(strings.ReplaceAll(n.Value, "_", "")); err == nil {
			s.add(n.Pos(), n.End(), strconv.Itoa(value+1))
		}
	case token.STRING:
		for _, c := range inSQL(n.Value) {
			s.add(n.Pos()+token.Pos(c.from), n.Pos()+token.Pos(c.to), c.by)
		}
	}
}
