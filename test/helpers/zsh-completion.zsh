# Types $1 and a tab into an interactive zsh that has the completions of mlxk, and prints what it offers, one a line.
zmodload zsh/zpty
zpty shell zsh -f -i
# What completion adds goes to the terminal too, marked; calls that only sort or store are let through.
zpty -w shell 'PS1= PROMPT= RPROMPT=
autoload -U compinit; compinit -u -D; source <(mlxk completion zsh)
compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)* ]]; then builtin compadd "$@"; return; fi
  local -a found; builtin compadd -O found "$@"; builtin compadd "$@"
  (( $#found )) && print -rl -- ${found/#/OFFERED:} > /dev/tty
}
tab() { zle complete-word; print -r -- "AFTER""WARDS" > /dev/tty }
zle -N tab; bindkey "^I" tab; setopt nobeep; print -r -- "REA""DY"'
local line
while zpty -r shell line; do [[ $line == *READY* ]] && break; done
zpty -w -n shell "$1"$'\t'
while zpty -r shell line; do
  line=${line//$'\r'/}
  [[ $line == *OFFERED:* ]] && print -r -- ${${line##*OFFERED:}%$'\n'}
  [[ $line == *AFTERWARDS* ]] && break
done
zpty -d shell
