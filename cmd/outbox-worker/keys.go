package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/internal/keyring"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

func (p *program) keysCommand() *cobra.Command {
	return groupCommand(&cobra.Command{
		Use:   "keys",
		Short: "make signing keys, and list them",
		Long: `Makes keys, and lists those in OUTBOX_SIGNING_KEYS and OUTBOX_SIGNING_KEYS_FILE. An hmac key is one secret, with which
the worker signs and the receiver verifies; every Standard Webhooks library accepts it. An ed25519 key has two halves:
the worker has the secret one, and receivers have the public one.

A set of keys has a name, and all its keys sign. To replace a key, add the new one at the receivers, then
at the worker; then remove the old one at the receivers, and last at the worker.`,
		Example: `  outbox-worker keys generate
  OUTBOX_SIGNING_KEYS="default=$(outbox-worker keys generate)" outbox-worker run
  echo "acme = $(outbox-worker keys generate --type ed25519)" >> keys   # a line of OUTBOX_SIGNING_KEYS_FILE`,
	}, p.keysGenerateCommand(), p.keysPublicCommand(), p.keysListCommand())
}

// generatedKey is the JSON that keys generate prints.
type generatedKey struct {
	Type   keyType `json:"type"`
	Key    string  `json:"key"`
	ID     string  `json:"id,omitempty"`     // of an ed25519 key
	Public string  `json:"public,omitempty"` // likewise
}

func (p *program) keysGenerateCommand() *cobra.Command {
	kind := typeHMAC
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "print a new key",
		Long: `Prints a new key and nothing else on stdout, so that it can be piped into a secret store. It is stored nowhere. The
public half of an ed25519 key is printed on stderr.`,
		Example: `  outbox-worker keys generate > key
  outbox-worker keys generate --type ed25519 --json | jq -r .public`,
		Args: takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			key, err := webhook.Generate(kind.webhook())
			if err != nil {
				return fmt.Errorf("keys generate: %w", err)
			}
			public := publicText(key)
			if asJSON {
				return p.printJSON(generatedKey{kind, key.Reveal(), key.ID(), public})
			}
			p.printf("%s\n", key.Reveal())
			if public != "" {
				p.say("for receivers: %s", public)
			}
			return nil
		},
	}
	cmd.Flags().Var(&kind, "type", "hmac or ed25519")
	completeFlag(cmd, "type", cobra.FixedCompletions([]string{string(typeHMAC), string(typeEd25519)}, cobra.ShellCompDirectiveNoFileComp))
	jsonFlag(cmd, &asJSON)
	return cmd
}

func publicText(key webhook.Key) string {
	public, _ := key.Public()
	return public.Reveal()
}

func (p *program) keysPublicCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "public",
		Short: "print the public keys, as a JWKS",
		Long: `Prints the public halves of the ed25519 keys as a JSON Web Key Set, for receivers. A running worker serves the same at
/.well-known/jwks.json of OUTBOX_ADMIN_ADDR. A kid is the set's name, "/" and the key's id. An hmac key has no public
half.`,
		Example: `  outbox-worker keys public
  outbox-worker keys public --name acme > acme.jwks.json`,
		Args: takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			ring, err := p.keyring()
			if err != nil {
				return err
			}
			return p.printPublic(ring, name)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "only this set")
	return cmd
}

// keyring returns the signing keys of the environment; without any, it returns an error.
func (p *program) keyring() (*keyring.Ring, error) {
	c, err := p.load(keysVariable, keysFileVariable)
	if err != nil {
		return nil, err
	}
	if !c.settings.signs() {
		return nil, usagef("there are no signing keys: set %s or %s as for the worker", keysVariable, keysFileVariable)
	}
	return c.settings.keyring(nil)
}

func (p *program) printPublic(ring *keyring.Ring, name string) error {
	text, err := ring.JWKS()
	if err != nil {
		return fmt.Errorf("keys public: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return fmt.Errorf("keys public: %w", err)
	}
	if name != "" {
		if _, ok := ring.Keys(name); !ok {
			return fmt.Errorf("%w: no set is called %.64q%s", errNothing, name, didYouMean(name, ring.Names()))
		}
		all := set.Keys
		set.Keys = []json.RawMessage{}
		for _, key := range all {
			if setOf(key) == name {
				set.Keys = append(set.Keys, key)
			}
		}
	}
	if len(set.Keys) == 0 {
		p.say("there is no ed25519 key; others have no public half")
	}
	return p.printJSON(set)
}

// setOf returns the name before the "/" in a JWK's kid; no name holds one.
func setOf(key json.RawMessage) string {
	var jwk struct {
		ID string `json:"kid"`
	}
	_ = json.Unmarshal(key, &jwk) // it was marshalled here
	name, _, _ := strings.Cut(jwk.ID, "/")
	return name
}

// listedKey is one key in the JSON that keys list prints.
type listedKey struct {
	Set    string  `json:"set"`
	Type   keyType `json:"type"`
	ID     string  `json:"id,omitempty"`     // of an ed25519 key
	Public string  `json:"public,omitempty"` // likewise
}

func (p *program) keysListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the keys by set, without their secrets",
		Long: `Lists the keys by set, without their secrets. A key with an id is an ed25519 key, and its public half is shown. An hmac
key has no id, because anything derived from a secret reveals something about it.`,
		Example: "  outbox-worker keys list\n  outbox-worker keys list --json | jq -r '.[] | select(.set == \"acme\").public'",
		Args:    takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			ring, err := p.keyring()
			if err != nil {
				return err
			}
			list := listKeys(ring)
			if asJSON {
				return p.printJSON(list)
			}
			rows := make([][]string, len(list))
			for i, k := range list {
				rows[i] = []string{k.Set, string(k.Type), orDash(k.ID), orDash(k.Public)}
			}
			p.table([]string{"SET", "TYPE", "ID", "PUBLIC"}, rows)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func listKeys(ring *keyring.Ring) []listedKey {
	list := []listedKey{}
	for _, name := range ring.Names() {
		keys, _ := ring.Keys(name)
		for _, key := range keys {
			list = append(list, listedKey{name, typeOf(key), key.ID(), publicText(key)})
		}
	}
	return list
}

// keyType is a flag's name for a kind of key.
type keyType string

const (
	typeHMAC    keyType = "hmac"
	typeEd25519 keyType = "ed25519"
)

const wantKeyType = "hmac or ed25519"

func (k *keyType) Type() string   { return "type" }
func (k *keyType) String() string { return string(*k) }

// Set refuses other types.
func (k *keyType) Set(text string) error {
	if *k = keyType(strings.ToLower(text)); *k != typeHMAC && *k != typeEd25519 {
		return errors.New(wantKeyType)
	}
	return nil
}

func (k keyType) webhook() webhook.Kind {
	if k == typeEd25519 {
		return webhook.Ed25519
	}
	return webhook.HMAC
}

func typeOf(key webhook.Key) keyType {
	if key.Kind() == webhook.Ed25519 {
		return typeEd25519
	}
	return typeHMAC
}
