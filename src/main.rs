//! The `kbr` binary: everything is in the library, see `kbr::cli`.

fn main() -> std::process::ExitCode {
    kbr::cli::main()
}
