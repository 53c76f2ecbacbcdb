package config_test

import (
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/config"
)

// TestMistakesShowNoSecret: neither the line nor the text of a mistake has a part of a secret, wherever the two stand.
func TestMistakesShowNoSecret(t *testing.T) {
	t.Parallel()
	for _, file := range []string{
		"user_config: {k: !secret qzwxec}", "user_config: {k: !secret qzwxec, z: !secret 'qz wxec'}", `user_config: {k: !secret "qzwxec"}`, "user_config: [!secret  qzwxec  , 1]",
		"user_config: !secret qzwxec", "user_config: {\u00e9: !secret qzwxec, 'k': !secret qzwxec}", "user_config: [a, !secret qzwxec,\"!secret\", !secret qzwxec]",
		"user_config: {k: &a !secret qzwxec, j: *a}", "user_config: {k: !secret &a qzwxec, j: *a}", "user_config: {k: !secret 918273}", "nope: !secret qzwxec", "nope: {k: !secret qzwxec}",
		"user_config: {k: !secret \"a\n          qzwxec\", j: 1}", "user_config: {k: !secret 'a''\n          qzwxec', j: 1}", "user_config: {k: !secret \"a\\\"\n          qzwxec\n       qzwxec\", j: 1}",
		"user_config: {k: !secret a\n          qzwxec, j: 1}", "num_replicas: !secret qzwxec", "num_replicas: {a: !secret qzwxec}", "num_replicas: [{env_vars: {A: qzwxec, B: {C: 918273}}}]",
		"ray_actor_options: {runtime_env: {env_vars: {A: qzwxec, B: 'qz wxec', C: 918273}}}", "ray_actor_options: {runtime_env: {env_vars: {A: \"qz\n         wxec\"}}}", "runtime_enf: {env_vars: {A: qzwxec}}",
		"ray_actor_options: [{env_vars: {A: qzwxec}}]", "env_vars: [qzwxec]", "env_vars: qzwxec",
	} {
		for _, before := range []string{"", "nope: 1, "} {
			_, err := config.Read("f.yaml", []byte("applications:\n- import_path: a:b\n  deployments: [{name: D, "+before+file+", num_replica: 3}]\n"))
			if err == nil {
				t.Errorf("%s: the mistake num_replica is not found", file)
				continue
			}
			text := strings.ReplaceAll(err.Error(), "!secret", "")
			for _, part := range []string{"qz", "wx", "ec}", "ec'", "ec\"", "c,", "c]", "9182", "73}"} {
				if strings.Contains(text, part) {
					t.Errorf("%s%s: %q is shown:\n%s", before, file, part, err)
				}
			}
		}
	}
	for _, file := range []string{
		`{"applications": [{"import_path": "a:b", "x": 1, "runtime_env": {"env_vars": {"A": "qzwxec", "B": 918273}}}]}`, `{"http_options": {"ssl_keyfile_password": "qzwxec"}, "applications": 1}`,
	} {
		if _, err := config.Read("f.json", []byte(file)); err == nil || strings.Contains(err.Error(), "qz") || strings.Contains(err.Error(), "918") {
			t.Errorf("%v", err)
		}
	}
}
