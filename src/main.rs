//! The program; everything is in the library.

#[global_allocator]
static MEMORY: rexsh::sys::memory::Counting = rexsh::sys::memory::Counting;

fn main() -> std::process::ExitCode {
    rexsh::command::main()
}
