package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
)

// list returns the files of the distribution's src and test trees, as slash-separated paths below root, in an order that
// the seed decides, so that failing and succeeding runs are mixed. With a limit, they are an even sample of all.
func list(root string, limit int, seed uint64) ([]string, error) {
	var paths []string
	for _, tree := range []string{"src", "test"} {
		// Some distributions have the trees as links into another place.
		dir, err := filepath.EvalSymlinks(filepath.Join(root, tree))
		if os.IsNotExist(err) {
			continue // a toolchain that Go downloaded by itself comes without test
		}
		if err != nil {
			return nil, err
		}
		err = fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				paths = append(paths, path.Join(tree, name))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("-root %s: neither src nor test holds a file; want the Go distribution, as `go env GOROOT` prints it", root)
	}
	order := rand.New(rand.NewPCG(seed, 0))
	order.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	if limit > 0 && limit < len(paths) {
		paths = paths[:limit]
	}
	return paths, nil
}
