//! What programs and core dumps are: elf_info.

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with1};
use super::handle::Target;
use super::value::{Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Kind, Result};
use crate::policy::ask;
use crate::resource::file::File;
use crate::sys;

pub const FUNCTIONS: &[Function] = &[ELF_INFO];

const ELF_INFO: Function = Function {
    name: "elf_info",
    doc: "What an ELF file is: a program, a library, or the core dump of a process.\n\nA map with `class` (32 or 64) and `is_64bit`, `endian`, `type` (`executable`, `pie`, `shared_object`, `object`, `core`), `machine`, `entry`, `interpreter`, `soname`, `needed` (names of libraries), `runpath`, `build_id`, `stripped`, `debug_info`, `nx_stack`, `relro` (`none`, `partial`, `full`). Of a core dump also `execfn` (the path by which the program was started), `platform`, and `process`: `pid`, `name`, `args` (cut by the kernel to 80 bytes), `signal`. What the file does not tell is `()`. What is no ELF file is the error `bad_data`.",
    body: &with1(elf_info, [param("file", "The file: its path, or an open file.")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::BadData, Kind::Permission],
    examples: &[
        Example { given: &[], script: r#"elf_info("/bin/sh").is_64bit"#, gives: "" },
        Example { given: &[], script: r#"elf_info("/bin/sh").interpreter"#, gives: "" },
    ],
};

fn elf_info(call: &Call<'_>, file: Target) -> Result<Map> {
    let file = match file {
        Target::Path(path) => File::locate(&path)?,
        Target::Open(handle) => handle.again()?,
    };
    let file = call.permit::<Read>(file)?;
    let shown = || file.resource().asked().shown();
    let elf =
        sys::elf::look(&file, &|| call.check()).map_err(|error| if error.path.is_none() { error.with_path(shown()) } else { error })?;
    let text = |bytes: Option<Vec<u8>>| bytes.map_or(Dynamic::UNIT, |bytes| name_value(&bytes));
    let needed: Vec<Dynamic> = elf.needed.iter().map(|name| name_value(name)).collect();
    let core = elf.core.as_ref();
    let process = core.map(|core| {
        record([
            ("pid", core.pid.into_script()),
            ("name", text(core.name.clone())),
            ("args", text(core.arguments.clone())),
            ("signal", core.signal.map(u32::from).into_script()),
        ])
    });
    Ok(record([
        ("class", Dynamic::from_int(elf.class.into())),
        ("is_64bit", (elf.class == 64).into_script()),
        ("endian", if elf.big_endian { "big" } else { "little" }.into_script()),
        ("type", elf.kind.into_script()),
        ("machine", elf.machine.into_script()),
        ("entry", elf.entry.into_script()),
        ("interpreter", text(elf.interpreter)),
        ("soname", text(elf.soname)),
        ("needed", needed.into_script()),
        ("runpath", text(elf.runpath)),
        ("build_id", elf.build_id.into_script()),
        ("stripped", elf.stripped.into_script()),
        ("debug_info", elf.debug_info.into_script()),
        ("nx_stack", elf.nx_stack.into_script()),
        ("relro", elf.relro.into_script()),
        ("execfn", text(core.and_then(|core| core.execfn.clone()))),
        ("platform", text(core.and_then(|core| core.platform.clone()))),
        ("process", process.into_script()),
    ]))
}
