package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/commands"
)

// completion adds the command that writes the completions of shells. Cobra makes it; its script for bash needs the package bash-completion, which machines such
// as containers often do not have, and gets the rest here.
func completion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		name := root.Name()
		c.Use, c.Args = "completion SHELL", nil
		c.Short = "Write the completion of commands, flags and names for a shell"
		c.Long = "Write the completion of commands, flags, and the names of applications, deployments and replicas of a running node for a shell:\n\n" +
			"  source <(" + name + " completion bash)      in ~/.bashrc; with and without the package bash-completion\n" +
			"  source <(" + name + " completion zsh)       in ~/.zshrc, after compinit\n" +
			"  " + name + " completion fish | source       in ~/.config/fish/config.fish"
		for _, shell := range c.Commands() {
			shell.Args, shell.Short, shell.Long = commands.NoArgs, "Write the completion for "+shell.Name(), ""
			commands.NoVariable(shell, "no-descriptions")
			switch shell.Name() {
			case "bash":
				shell.RunE = bashCompletion(root)
			case "powershell": // Helve has no nodes on Windows
				c.RemoveCommand(shell)
			}
		}
	}
}

func bashCompletion(root *cobra.Command) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		plain, err := c.Flags().GetBool("no-descriptions")
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		if err := root.GenBashCompletionV2(out, !plain); err != nil {
			return err
		}
		_, err = io.WriteString(out, bashWords(root.Name()))
		return err
	}
}

// bashWords is the part of the script for bash that finds the words of the line, for a shell without bash-completion. Bash itself divides words at = and :, which
// import paths and flags have inside, so the line is divided anew.
func bashWords(program string) string {
	return `
__` + program + `_init_completion()
{
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local line=${COMP_LINE:0:COMP_POINT}
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=""
    ((cword > 0)) && prev=${words[cword - 1]}
    return 0
}
`
}
