# Completion of kbr for bash. In ~/.bashrc: source <(kbr completions bash)
_kbr() {
    COMPREPLY=()
    # What bash redirects to is a file, and no word of kbr's.
    if (( COMP_CWORD > 0 )) && [[ ${COMP_WORDS[COMP_CWORD-1]} == *[\<\>]* ]]; then
        compopt -o default 2>/dev/null
        return 0
    fi
    # The kbr that is typed, wherever it is.
    local kbr=$1 line first=1
    type -P -- "$kbr" >/dev/null 2>&1 || kbr=kbr
    # bash breaks words at colons; kbr reads the line itself, and answers for what bash takes for the word.
    while IFS= read -r line; do
        if (( first )); then
            first=0
            [[ $line == nospace ]] && compopt -o nospace 2>/dev/null
        else
            COMPREPLY+=("$line")
        fi
    done < <("$kbr" __complete bash "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null </dev/null)
    return 0
}
complete -o nosort -F _kbr kbr 2>/dev/null || complete -F _kbr kbr
