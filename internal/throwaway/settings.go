package throwaway

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// settingArgs returns the arguments that make a server of our own run with the default settings and the wanted ones.
func settingArgs(wanted map[string]string) ([]string, error) {
	settings := map[string]string{
		"fsync":              "off",
		"full_page_writes":   "off",
		"synchronous_commit": "on",
		"max_connections":    "200",
		"shared_buffers":     "128MB",
	}
	for name, value := range wanted {
		if name != strings.ToLower(name) {
			return nil, fmt.Errorf("throwaway: Options.Settings: write %s in lower case", name)
		}
		switch name {
		case "port", "listen_addresses", "unix_socket_directories":
			return nil, fmt.Errorf("throwaway: Options.Settings can't contain %s: the server chooses where it listens", name)
		}
		settings[name] = value
	}
	_, given := wanted["full_page_writes"]
	if settings["fsync"] != "off" && !given {
		// Without fsync, full pages cost WAL and protect nothing. With fsync, the data must survive a crash of the machine, or the cost
		// of that is measured: then Postgres's own default, on, is right.
		delete(settings, "full_page_writes")
	}
	var args []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args, nil
}
