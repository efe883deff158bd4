//! Argument parsing, terminal, exit codes; no logic.

/// Entry point of the binary.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
