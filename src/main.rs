//! The `kbr` binary: everything is in the library, see `kbr::cli`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    kbr::cli::main()
}
