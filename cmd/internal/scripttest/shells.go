package scripttest

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// shells are the programs that have a real shell complete a command line, $2, by the script
// that the program $1 prints. Each prints what the line may become, one word a line.
var shells = map[string][]string{
	// bash calls a function, and so does this.
	"bash": {"bash", "--norc", "--noprofile", "-c", `
		source <("$1" completion bash)
		COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=() COMP_CWORD=-1
		# Words as readline makes them: = and : are words too.
		line=$2
		while [[ -n $line ]]; do
			if [[ $line =~ ^[[:space:]]+ ]]; then
				line=${line:${#BASH_REMATCH}}
				[[ -n $line ]] || COMP_WORDS+=("")
			elif [[ $line =~ ^[=:]+ || $line =~ ^[^[:space:]=:]+ ]]; then
				COMP_WORDS+=("$BASH_REMATCH")
				line=${line:${#BASH_REMATCH}}
				[[ -n $line || $BASH_REMATCH != *[=:] ]] || COMP_WORDS+=("")
			fi
		done
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		function=$(complete -p "$1")
		function=${function#*-F }
		"${function%% *}" "$1" "${COMP_WORDS[-1]}" ""
		printf '%s\n' "${COMPREPLY[@]}"`},
	// zsh completes only where it edits a line, in a terminal of its own.
	"zsh": {"zsh", "-f", "-c", `
		zmodload zsh/zpty
		export OUT=$(mktemp)
		zpty z zsh -f -i
		zpty -w z "PROMPT=; autoload -Uz compinit; compinit -u -D; source =($1 completion zsh)"
		zpty -w z 'compadd() { local -a hits; builtin compadd -O hits "$@"; print -rl -- $hits >>$OUT; builtin compadd "$@"; }'
		zpty -w z 'ended() { : >$OUT.ended; }; zle -N ended; bindkey "^X^X" ended; bindkey "^I" complete-word'
		zpty -w z 'zle-line-init() { : >$OUT.ready; }; zle -N zle-line-init'
		for file in ready ended; do
			[[ $file = ready ]] || zpty -n -w z "$2"$'\t\x18\x18'
			for ((i = 0; i < 600; i++)); do
				[[ ! -e $OUT.$file ]] || break
				sleep 0.05
			done
		done
		zpty -d z
		grep -v '^$' $OUT
		rm -f $OUT*`, "zsh"},
	"fish": {"fish", "--no-config", "-c", `$argv[1] completion fish | source; complete -C $argv[2]`},
}

// completes is a command of scripts.
func completes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || shells[args[0]] == nil {
		ts.Fatalf("usage: completes SHELL LINE")
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		skip(ts, args[0]+" is not installed")
		return
	}
	program, _, _ := strings.Cut(args[1], " ")
	argv := slices.Clone(shells[args[0]])
	if args[0] == "bash" {
		argv = append(argv, "bash")
	}
	// The shells' own files are not the user's.
	dir := ts.MkAbs(".")
	env := []string{"HOME=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, ".config"), "XDG_DATA_HOME=" + filepath.Join(dir, ".local"), "TERM=dumb"}
	ts.Check(ts.Exec("env", slices.Concat(env, argv, []string{program, args[1]})...))
}
