package monitoring_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Grafana itself does not run in the tests. This test looks for parts that Grafana would refuse, or show in a wrong place.
func TestGrafanaCanReadTheDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("grafana/outbox.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title, UID    string
		SchemaVersion int
		Panels        []struct {
			ID          int
			Type, Title string
			Datasource  map[string]string
			GridPos     struct{ X, Y, W, H int }
			FieldConfig struct{ Defaults struct{ Unit string } }
			Targets     []struct{ RefID, Expr string }
		}
		Templating struct{ List []struct{ Name, Type string } }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" || d.SchemaVersion < 36 || len(d.Panels) == 0 || len(d.Templating.List) != 2 {
		t.Errorf("title %q, uid %q, schema %d (want 36 at least), %d panels, variables %v (want 2)", d.Title, d.UID, d.SchemaVersion, len(d.Panels), d.Templating.List)
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("panel %q has the id %d, want a title, and an id that no other panel has", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && (p.Datasource["uid"] != "${datasource}" || len(p.Targets) == 0 || p.FieldConfig.Defaults.Unit == "") {
			t.Errorf("panel %q: data source %v, %d queries, unit %q; want ${datasource}, a query and a unit", p.Title, p.Datasource, len(p.Targets), p.FieldConfig.Defaults.Unit)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] || target.Expr == "" {
				t.Errorf("panel %q: query %s is %q, want an expression, and a letter that no other query has", p.Title, target.RefID, target.Expr)
			}
			refs[target.RefID] = true
		}
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 {
			t.Errorf("panel %q is at %+v; a dashboard is 24 wide", p.Title, p.GridPos)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("panels %q and %q overlap", other, p.Title)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// compose is the part of docker-compose.yml about the services of the monitoring.
type compose struct {
	Services map[string]struct {
		Profiles, Volumes, Ports []string
		Environment              map[string]string
	}
	Volumes map[string]any
}

// Docker does not run in the tests either. Every file that Compose mounts must exist, and a service without a login must
// listen at this machine only.
func TestEveryFileThatComposeMountsExists(t *testing.T) {
	t.Parallel()
	var c compose
	read(t, "../docker-compose.yml", &c)
	for _, name := range []string{"prometheus", "grafana"} {
		service := c.Services[name]
		if len(service.Profiles) != 1 || service.Profiles[0] != "monitoring" {
			t.Errorf("%s has the profiles %v, want monitoring", name, service.Profiles)
		}
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s has no login and listens at %s, want 127.0.0.1", name, port)
			}
		}
		for _, volume := range service.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			if _, declared := c.Volumes[from]; declared {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", from)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A path or a service that one file names must be in another one.
func TestPrometheusAndGrafanaFindWhatComposeMounts(t *testing.T) {
	t.Parallel()
	var c compose
	read(t, "../docker-compose.yml", &c)
	mounted := map[string]string{}
	for _, volume := range append(c.Services["prometheus"].Volumes, c.Services["grafana"].Volumes...) {
		from, to, _ := strings.Cut(strings.TrimSuffix(volume, ":ro"), ":")
		mounted[to] = from
	}
	var prometheus struct {
		Rules   []string `yaml:"rule_files"`
		Scrapes []struct {
			Job string `yaml:"job_name"`
			DNS []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	read(t, "prometheus.yml", &prometheus)
	if len(prometheus.Rules) != 1 || mounted[prometheus.Rules[0]] != "./monitoring/outbox.rules.yml" {
		t.Errorf("Prometheus reads the rules %v, want the mounted ones; the mounts are %v", prometheus.Rules, mounted)
	}
	s := prometheus.Scrapes[0]
	if _, there := c.Services[s.DNS[0].Names[0]]; !there || s.Job != "outbox-worker" || s.DNS[0].Port != 9464 {
		t.Errorf("Prometheus scrapes %+v, want the worker at port 9464", s)
	}
	if home := c.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]; mounted[home] != "./monitoring/grafana/outbox.json" {
		t.Errorf("the first page of Grafana is %s, want the mounted dashboard; the mounts are %v", home, mounted)
	}
	var provider struct {
		Providers []struct{ Options struct{ Path string } }
	}
	read(t, "grafana/provisioning/dashboards/outbox.yml", &provider)
	if path := provider.Providers[0].Options.Path; mounted[path+"/outbox.json"] == "" {
		t.Errorf("Grafana reads dashboards in %s, want the mounted directory; the mounts are %v", path, mounted)
	}
	var sources struct{ Datasources []struct{ Type, URL string } }
	read(t, "grafana/provisioning/datasources/prometheus.yml", &sources)
	if s := sources.Datasources[0]; s.Type != "prometheus" || s.URL != "http://prometheus:9090" {
		t.Errorf("the data source of Grafana is %+v, want Prometheus", s)
	}
}
