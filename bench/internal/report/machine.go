package report

// Machine is the machine on which the figures were measured: without it they mean nothing.
type Machine struct {
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	MemoryGiB  float64 `json:"memory_gib"`
	System     string  `json:"system"`
	Go         string  `json:"go"`
	Postgres   string  `json:"postgres"`
	Settings   string  `json:"postgres_settings"`
	SyncMS     float64 `json:"sync_ms"`     // median time to write and sync 8 KiB
	LoadBefore float64 `json:"load_before"` // the system's load average when the run began
}

// same reports whether absolute figures of two machines can be compared.
func (m Machine) same(other Machine) bool {
	return m.CPU == other.CPU && m.Cores == other.Cores && m.Go == other.Go && m.Postgres == other.Postgres &&
		m.Settings == other.Settings
}
