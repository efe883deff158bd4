#compdef kbr
# Completion of kbr for zsh. In ~/.zshrc, after compinit: source <(kbr completions zsh)
_kbr() {
    local line value
    local -a values shown open_values open_shown
    local kbr=${(Q)words[1]}
    (( $+commands[$kbr] )) || [[ -x $kbr ]] || kbr=kbr
    for line in "${(@f)$("$kbr" __complete zsh "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null </dev/null)}"; do
        [[ -n $line ]] || continue
        value=${line%%$'\t'*}
        [[ $line == *$'\t'* ]] && line="$value  -- ${line#*$'\t'}"
        if [[ $value == *[/:=] ]]; then
            open_values+=("$value") open_shown+=("$line")
        else
            values+=("$value") shown+=("$line")
        fi
    done
    (( $#values )) && compadd -V kbr -l -d shown -a values
    (( $#open_values )) && compadd -V kbr-open -S '' -l -d open_shown -a open_values
    return 0
}
if [[ ${funcstack[1]-} == _kbr ]]; then
    _kbr "$@"
else
    compdef _kbr kbr
fi
