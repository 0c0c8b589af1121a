//! Too much of everything: loops, memory, recursion, output, depth and odd numbers end at a limit or in an error, never in a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex};

#[test]
fn whatever_a_script_piles_up_ends_at_a_limit_and_is_on_record() {
    let rex = Rex::new().policy(ALLOW_ALL).file("small", "x\n");
    for (name, script, code) in [
        ("endless loop", "loop {}", 124),
        ("endless counting", "let i = 0; loop { i += 1 }", 124),
        ("sleep beyond the end", "sleep(1000)", 124),
        ("many short sleeps", "loop { sleep(0.01) }", 124),
        ("doubling a string", "let s = \"x\"; loop { s += s }", 125),
        ("doubling an array", "let a = [1]; loop { a += a }", 125),
        ("array in itself", "let a = [1]; loop { a.push(a) }", 125),
        (
            "long array of long strings",
            "let a = []; let i = 0; loop { a.push(`${i} xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`); i += 1 }",
            125,
        ),
        ("growing map", "let m = #{}; let i = 0; loop { m[`key number ${i}`] = `value of the key number ${i}`; i += 1 }", 125),
        ("padding", "let s = \"x\"; s.pad(1000000000000, \"y\"); s", 125),
        ("blob", "let b = blob(100000000000, 0); b.len()", 125),
        ("endless recursion", "fn f(n) { f(n + 1) } f(0)", 125),
        ("recursion of two", "fn f(n) { g(n) } fn g(n) { f(n) } f(0)", 125),
        ("recursion through a pointer", "let f = |f| f.call(f); f.call(f)", 125),
        (
            "flood of output",
            "loop { print(\"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\") }",
            125,
        ),
        ("one large output", "let s = \"x\"; for i in 0..25 { s += s } print(s)", 125),
        ("open files", "let all = []; loop { all.push(open(\"{data}/small\")) }", 125),
    ] {
        let start = std::time::Instant::now();
        let run = rex.run_with(&["--timeout", if code == 124 { "1" } else { "30" }], script);
        assert!(run.code == code || (code == 125 && run.code == 124), "{name}: {} {}", run.code, run.stderr);
        assert_eq!(run.error_type(), "LIMIT_EXCEPTION", "{name}: {}", run.stderr);
        assert!(code != 124 || start.elapsed().as_secs_f64() < 6.0, "{name}: took {:?}", start.elapsed());
        assert_eq!(run.events("run_end").len(), 1, "{name}: {:#?}", run.audit);
    }
    rex.run("let s = \"\"; for i in 0..1000 { s += \"x\" } s.len()").gives(1000);
}

#[test]
fn a_limit_cannot_be_caught() {
    let rex = Rex::new().policy(ALLOW_ALL);
    for script in ["loop {}", "sleep(1000)", "let s = \"x\"; loop { s += s }", "loop { print(\"y\") }"] {
        let run = rex.run_with(&["--timeout", "2"], &format!("try {{ {script} }} catch {{}} write(\"{{data}}/mark\", \"ran on\")"));
        assert!([124, 125].contains(&run.code) && !rex.exists("mark"), "{script}: {} {}", run.code, run.stderr);
    }
}

#[test]
fn memory_stays_near_its_limit_while_a_script_wants_more() {
    let rex = Rex::new().policy(ALLOW_ALL);
    for script in ["let s = \"x\"; loop { s += s }", "let a = [1]; loop { a.push(a) }", "let b = blob(1000000000, 1); loop { b += b }"] {
        let (config, policy) = (rex.config_file(), rex.policy_file());
        // A second fence far above rex's own limit (256 MiB): it is rex that must notice, not the kernel.
        let mut command = std::process::Command::new("sh");
        command
            .arg("-c")
            .arg("ulimit -v 4000000; exec \"$@\"")
            .arg("-")
            .arg(rex.program())
            .args(["run", "-", "--config"])
            .arg(&config)
            .arg("--policy")
            .arg(&policy)
            .args(["-o", "json"]);
        let run = rex.finish(command, script.as_bytes());
        assert_eq!(run.code, 125, "{script}: {run:#?}");
        assert_eq!(run.error_type(), "LIMIT_EXCEPTION", "{script}");
    }
}

#[test]
fn deep_and_huge_scripts_are_judged_not_crashed_on() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let nest = |open: &str, inner: &str, close: &str, times: usize| format!("{}{inner}{}", open.repeat(times), close.repeat(times));
    for (name, script) in [
        ("parentheses", nest("(", "1", ")", 10_000)),
        ("more parentheses", nest("(", "1", ")", 400_000)),
        ("unclosed parentheses", "(".repeat(1_000_000)),
        ("arrays", nest("[", "1", "]", 100_000)),
        ("maps", nest("#{a:", "1", "}", 100_000)),
        ("blocks", nest("{", "1", "}", 100_000)),
        ("conditions", nest("if true {", "1", "}", 50_000)),
        ("functions in closures", nest("|| {", "1", "}", 50_000)),
        ("signs", format!("{}1", "- ".repeat(250_000))),
        ("nots", format!("{}true", "!".repeat(500_000))),
        ("sums", format!("1{}", "+1".repeat(400_000))),
        ("indices", format!("let a = []; a{}", "[0]".repeat(300_000))),
        ("calls", format!("let a = 1; a{}", ".abs()".repeat(150_000))),
        ("strings in strings", nest("`${", "1", "}`", 50_000)),
        ("comments", nest("/*", "", "*/", 200_000)),
        ("over a mebibyte", format!("1;{}", " ".repeat(1 << 20))),
        ("many statements", "1;\n".repeat(1 << 18)),
        ("far over a mebibyte", "1;\n".repeat(4 << 20)),
        ("one long name", "a".repeat(1 << 19)),
        ("one long number", "9".repeat(1 << 19)),
    ] {
        let run = rex.run_with(&["--timeout", "20"], &script);
        assert!([0, 1, 2, 65, 124, 125].contains(&run.code), "{name}: {} {}", run.code, run.stderr.chars().take(300).collect::<String>());
        assert!(run.seconds < 30.0, "{name}: took {} s, its limit was 20 s", run.seconds);
        assert!(run.stderr.len() < 10_000 && run.stdout.len() < 10_000, "{name}: the answer repeats the script");
        run.json();
    }
    rex.run(&nest("(", "42", ")", 20)).gives(42);
    rex.run(&format!("42{}", " ".repeat((1 << 20) - 10))).gives(42);
}

#[test]
fn odd_texts_and_numbers_crash_nothing() {
    let rex = Rex::new().policy(ALLOW_ALL).file("one", "x\ny\n");
    for script in [
        "info(\"é\".to_string() + \"日本語\" * 1)",
        "let s = \"\"; for i in 0..3000 { s += \"日é\" } info(s); warn(s); s.len()",
        "head(\"{data}/one\", #{n: -9223372036854775808})",
        "head(\"{data}/one\", #{n: 9223372036854775807})",
        "tail(\"{data}/one\", #{n: 9223372036854775807})",
        "tail(\"{data}/one\", #{n: -1})",
        "cat(\"{data}/one\", #{offset: -1})",
        "cat(\"{data}/one\", #{max_bytes: 9223372036854775807})",
        "cat(\"{data}/one\", #{length: 9223372036854775807, offset: 9223372036854775807})",
        "grep(\"(a+)+$\", \"{data}/one\")",
        "grep(\"(((((((((((((((((((a{50}){50}){50}){50}){50}){50}))))))))))))))\", \"{data}/one\")",
        "grep(\"x\", \"{data}/one\", #{context: 9223372036854775807})",
        "find(\"{data}\", #{max_depth: -1})",
        "sleep(-1)",
        "sleep(9223372036854775807 - 9223372036854775807)",
        "sleep(0.0 / 0.0)",
        "-9223372036854775808 / -1",
        "9223372036854775807 + 1",
        "1 / 0",
        "1 << 65",
        "exit(9223372036854775807)",
        "exit(-1)",
        "cat(\"\")",
        "cat(\"\\u0000\")",
        "cat(\"{data}/one\\u0000/x\")",
        "cat(\"relative\")",
        "cat(\"/\" + \"x\".repeat_text(10))",
        "let p = \"\"; for i in 0..3000 { p += \"/a\" } cat(p)",
        "let p = \"/\"; for i in 0..300 { p += \"a\" } cat(p)",
        "cat(7)",
        "cat()",
        "cat(\"{data}/one\", #{nonesuch: 1})",
        "cat(#{}, [])",
    ] {
        let run = rex.run_with(&["--timeout", "5"], script);
        assert!([0, 1, 65, 75, 124, 125].contains(&run.code), "{script}: {run:#?}");
        assert!(!run.stderr.contains("panicked"), "{script}: {run:#?}");
        run.json();
    }
}
