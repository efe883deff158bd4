# Completion of kbr for fish. kbr completions fish > ~/.config/fish/completions/kbr.fish
function __kbr_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l kbr kbr
    type -q -- $words[1]; and set kbr $words[1]
    $kbr __complete fish $words (commandline --current-token --cut-at-cursor) 2>/dev/null </dev/null
end
complete --command kbr --no-files --keep-order --arguments '(__kbr_complete)'
