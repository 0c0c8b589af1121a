//! `parallel`: what closures side by side give, that every limit of a run holds in each of them, and that none of them changes what another one uses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex};
use serde_json::json;

#[test]
fn closures_run_side_by_side_and_their_results_are_in_order() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let run = rex.run("let start = timestamp(); parallel([0, 1, 2, 3].map(|n| || { let began = start.elapsed; sleep(1); [n, began, start.elapsed] }), #{max: 4})");
    let value = run.ends(0).value();
    let rows = value.as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row[0].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let latest_start = rows.iter().map(|row| row[1].as_f64().unwrap()).fold(0.0, f64::max);
    let first_end = rows.iter().map(|row| row[2].as_f64().unwrap()).fold(f64::MAX, f64::min);
    assert!(latest_start < first_end, "all ran at one time: {value}");
    // With one at a time, none overlaps.
    let run = rex.run("let start = timestamp(); parallel([0, 1, 2].map(|n| || { let began = start.elapsed; sleep(0.02); [began, start.elapsed] }), #{max: 1})");
    let value = run.ends(0).value();
    assert!(value.as_array().unwrap().windows(2).all(|pair| pair[0][1].as_f64() <= pair[1][0].as_f64()), "{value}");
    rex.run("parallel([])").gives(json!([]));
    // Rhai's loop variable is one for all turns; one inside the loop is new at each.
    let run = rex.run("let all = []; for n in 0..200 { let own = n; all.push(|| own * own) } parallel(all, #{max: 16})");
    assert_eq!(run.ends(0).value(), json!((0..200).map(|n| n * n).collect::<Vec<_>>()));
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let rex = Rex::new().policy(ALLOW_ALL);
    for script in [
        "parallel([1])",
        "parallel(1)",
        "parallel([|| 1], #{max: 0})",
        "parallel([|| 1], #{max: 17})",
        "parallel([|| 1], #{maxx: 1})",
        "parallel()",
    ] {
        let run = rex.run(&format!("try {{ {script}; }} catch (e) {{ return e.kind; }} \"nothing\""));
        run.gives("bad_argument");
    }
    let run = rex.run("try { parallel([|x| x]) } catch (e) { return \"caught\" }");
    run.gives("caught");
}

#[test]
fn the_first_error_in_order_is_thrown_unchanged_once_all_have_ended() {
    let rex = Rex::new().policy(ALLOW_ALL).file("odd", "{");
    let run = rex.run(
        "let all = [|| 1,\n|| { sleep(0.3); throw #{mine: 5} },\n|| { sleep(0.1); parse_json(\"{\") },\n|| { sleep(0.6); write(\"{data}/done\", \"x\") }];\ntry { parallel(all) } catch (e) { return [e.mine, exists(\"{data}/done\")] }",
    );
    run.gives(json!([5, true]));
    // Uncaught it keeps its class and its place.
    let run = rex.run("let all = [|| 1,\n|| cat(\"{data}/none\")];\nparallel(all)");
    let plain = rex.run("let f = 1;\ncat(\"{data}/none\")");
    assert_eq!(run.code, plain.code, "{run:#?}");
    let place = |run: &common::Run| run.json()["error"].clone();
    assert_eq!(place(&run)["error_type"], place(&plain)["error_type"]);
    assert_eq!(place(&run)["line"], place(&plain)["line"], "{:#}", place(&run));
    // Nothing begins after a failure.
    rex.run("try { parallel([|| throw 1, || write(\"{data}/late\", \"x\")], #{max: 1}) } catch {} exists(\"{data}/late\")").gives(false);
}

#[test]
fn with_keep_going_every_closure_runs_and_tells_what_became_of_it() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let run = rex.run(
        "let all = [|| 1,\n|| throw \"own\",\n|| cat(\"{data}/none\"),\n|| unknown_thing(),\n|| [1][5],\n|| ()];\nparallel(all, #{keep_going: true, max: 2})",
    );
    let value = run.ends(0).value();
    assert_eq!(value[0], json!({"ok": true, "value": 1}));
    assert_eq!(value[1], json!({"ok": false, "error": "own"}));
    assert_eq!((&value[2]["error"]["kind"], &value[2]["error"]["at"]["line"]), (&json!("not_found"), &json!(3)), "{value:#}");
    assert_eq!((&value[3]["error"]["kind"], &value[3]["error"]["at"]["line"]), (&json!("script"), &json!(4)), "{value:#}");
    assert_eq!((&value[4]["error"]["kind"], &value[4]["error"]["at"]["line"]), (&json!("script"), &json!(5)), "{value:#}");
    assert_eq!(value[5], json!({"ok": true, "value": null}));
    // What is thrown again is what it was.
    let run = rex.run("let all = parallel([|| cat(\"{data}/none\")], #{keep_going: true});\nthrow all[0].error");
    assert_eq!(run.error_type(), rex.run("cat(\"{data}/none\")").error_type());
}

#[test]
fn captured_variables_are_copies_that_no_closure_can_change() {
    let rex = Rex::new().policy(ALLOW_ALL);
    for change in ["n += 1", "n = 5", "list.push(1)", "list[0] = 9", "map.a = 9", "f.call()", "maps[0].a = 3"] {
        let run = rex.run(&format!(
            "let n = 1; let list = [1]; let map = #{{a: 1}}; let maps = [#{{a: 1}}]; let f = || n += 1;\nlet why = parallel([|| {{ {change}; }}], #{{keep_going: true}})[0];\n[why.ok, n, list, map, maps, why.error.message]"
        ));
        let value = run.ends(0).value();
        assert_eq!(value[0], false, "{change}: {value}");
        assert!(value[5].as_str().is_some_and(|text| text.to_lowercase().contains("constant")), "{change}: {value}");
        assert_eq!(
            (&value[1], &value[2], &value[3], &value[4]),
            (&json!(1), &json!([1]), &json!({"a": 1}), &json!([{"a": 1}])),
            "{change}"
        );
    }
    // They are read, copied and gone through as always.
    let read = "let n = 1; let list = [3, 1, 2]; let map = #{a: 1}; let text = \"ab\"; let f = |x| x + n;\n\
        parallel([|| { let own = list; own.push(4); let sum = 0; for item in list { sum += item } [n, own.len(), list.len(), sum, map.keys(), map.a, text.len(), text + n, f.call(1), list.map(|x| x + n), list[0], list.to_string(), map.to_json(), list.contains(2)] }])[0]";
    rex.run(read).gives(json!([1, 4, 3, 6, ["a"], 1, 2, "ab1", 2, [4, 2, 3], 3, "[3, 1, 2]", "{\"a\":1}", true]));
    // A closure that holds itself is no endless copy.
    let run = rex.run("let f = (); f = || f.call(); try { parallel([f]) } catch (e) { return e.kind }");
    run.gives("bad_argument");
    // Many closures on one variable, for long: no lock, no race.
    let run = rex.run(
        "let list = []; list.pad(2000, 1);\nlet all = []; for n in 0..16 { all.push(|| { let sum = 0; for item in list { sum += item + list.len() - 2000 } sum }) }\nparallel(all, #{max: 16})",
    );
    assert_eq!(run.ends(0).value(), json!(vec![2000; 16]));
    // Own variables may be changed, also from closures within.
    rex.run("parallel([|| { let n = 0; [1, 2, 3].for_each(|| n += this); retry(2, || n += 1); n }])").gives(json!([7]));
}

#[test]
fn every_limit_holds_in_closures_side_by_side() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\noperations = 3000000\n");
    let bombs = [
        ("memory", "let s = \"x\"; loop { s += s }", 125),
        ("memory in pieces", "let a = []; loop { a.push(blob(100000, 1)) }", 125),
        ("recursion", "fn f(n) { f(n + 1) } f(0)", 125),
        ("steps", "loop {}", 125),
        ("steps of closures", "loop { [1, 2, 3, 4, 5, 6, 7, 8].map(|n| n + 1) }", 125),
        ("output", "let s = \"yyyyyyyyyyyyyyyy\"; for i in 0..16 { s += s } loop { print(s) }", 125),
        ("nothing to hold it", "let b = blob(100000000000, 0); b.len()", 125),
    ];
    for (name, bomb, code) in bombs {
        let (functions, bomb) = bomb.strip_prefix("fn f(n) { f(n + 1) } ").map_or(("", bomb), |bomb| ("fn f(n) { f(n + 1) } ", bomb));
        for others in ["|| sleep(50)", "|| 1", "|| parallel([|| sleep(50), || sleep(50)])"] {
            let script = format!(
                "{functions}try {{ parallel([{others}, || {{ {bomb} }}, {others}], #{{max: 3, keep_going: true}}) }} catch {{}} write(\"{{data}}/mark\", \"ran on\")"
            );
            let start = std::time::Instant::now();
            let run = rex.run_with(&["--timeout", "30"], &script);
            assert_eq!(run.code, code, "{name}, {others}: {run:#?}");
            assert!(!rex.exists("mark") && start.elapsed().as_secs_f64() < 25.0, "{name}, {others}");
            assert_eq!(run.error_type(), "LIMIT_EXCEPTION", "{name}, {others}");
            assert_eq!(run.events("run_end").len(), 1, "{name}: {:#?}", run.audit);
        }
    }
}

#[test]
fn steps_that_closures_take_together_are_counted_together() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\noperations = 200000\n");
    let count = "|| { let n = 0; for i in 0..10000 { n += 1 } n }";
    rex.run(&format!("parallel([{count}])")).gives(json!([10000]));
    let run = rex.run(&format!("parallel([{}], #{{max: 4}})", [count; 12].join(", ")));
    assert_eq!((run.code, run.error_type().as_str()), (125, "LIMIT_EXCEPTION"), "{run:#?}");
    // So are those of closures that other functions call.
    let run = rex.run("for n in 0..100 { retry(1, || { let n = 0; for i in 0..10000 { n += 1 } n }) }");
    assert_eq!((run.code, run.error_type().as_str()), (125, "LIMIT_EXCEPTION"), "{run:#?}");
}

#[test]
fn the_time_limit_ends_closures_that_loop_or_wait() {
    let rex = Rex::new().policy(ALLOW_ALL);
    for work in ["loop {}", "sleep(1000)", "loop { sleep(0.01) }", "retry(1000, #{delay: 10}, || throw 1)"] {
        let start = std::time::Instant::now();
        let run = rex.run_with(&["--timeout", "1"], &format!("parallel([|| 1, || {{ {work} }}, || {{ {work} }}], #{{keep_going: true}})"));
        assert_eq!((run.code, run.error_type().as_str()), (124, "LIMIT_EXCEPTION"), "{work}: {run:#?}");
        assert!(start.elapsed().as_secs_f64() < 8.0, "{work}: {:?}", start.elapsed());
    }
}

#[test]
fn deep_recursion_and_deep_values_in_closures_crash_nothing() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\ndepth = 512\n");
    let run = rex.run("fn f(n) { f(n + 1) } parallel([|| f(0), || f(0), || f(0)])");
    assert_eq!((run.code, run.error_type().as_str()), (125, "LIMIT_EXCEPTION"), "{run:#?}");
    // A value that nests too deep for any stack is dropped by the thread of the closure that made it.
    let deep = "let f = || 1; for i in 0..1000000 { let g = f; f = || g.call(); } 1";
    for others in ["|| 1", "|| sleep(30)"] {
        let run = rex.run_with(&["--timeout", "40"], &format!("parallel([{others}, || {{ sleep(0.1); {deep} }}, {others}])"));
        assert_eq!((run.code, run.error_type().as_str()), (125, "LIMIT_EXCEPTION"), "{run:#?}");
        assert!(run.json()["error"].to_string().contains("nest too deep"), "{run:#?}");
        assert_eq!(run.events("run_end").len(), 1, "{run:#?}");
    }
}

#[test]
fn exit_in_a_closure_ends_the_run_with_its_code() {
    let rex = Rex::new().policy(ALLOW_ALL);
    for others in ["|| sleep(100)", "|| loop {}", "|| retry(100, #{delay: 100}, || throw 1)", "|| parallel([|| sleep(100), || loop {}])"] {
        let start = std::time::Instant::now();
        let script = format!(
            "try {{ parallel([{others}, || {{ sleep(0.2); exit(7) }}, {others}], #{{keep_going: true}}) }} catch {{}} write(\"{{data}}/mark\", \"x\")"
        );
        let run = rex.run_with(&["--timeout", "50"], &script);
        assert_eq!(run.code, 7, "{others}: {run:#?}");
        assert!(start.elapsed().as_secs_f64() < 20.0 && !rex.exists("mark"), "{others}");
    }
}

#[test]
fn a_denial_in_a_closure_is_on_record_with_its_line() {
    let rex = Rex::new()
        .policy("permit(principal, action, resource) unless { resource is file_system::File && resource.path like \"*/secret\" };");
    let rex = rex.file("secret", "x").file("open", "y");
    let run = rex.run("let all = [\n|| cat(\"{data}/open\"),\n|| cat(\"{data}/secret\")\n];\nparallel(all)");
    run.is_denied();
    let denied: Vec<_> = run.events("decision").into_iter().filter(|record| record["decision"] == "deny").collect();
    assert_eq!(denied.len(), 1, "{denied:#?}");
    assert!(denied[0].to_string().contains("\"line\":3"), "{:#}", denied[0]);
    let run = rex.run(
        "let all = [];\nfor i in 0..40 { let n = i; all.push(|| cat(\"{data}/\" + if n % 2 == 0 { \"secret\" } else { \"open\" })) }\nlet n = 0;\nfor r in parallel(all, #{max: 16, keep_going: true}) { if !r.ok && r.error.kind == \"denied\" { n += 1 } }\nn",
    );
    run.gives(20);
    assert_eq!(run.denials(), 20);
    assert_eq!(run.events("decision").iter().filter(|record| record["decision"] == "deny").count(), 20);
}

#[test]
fn lines_that_closures_print_are_whole() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let script = "let all = [];\nfor i in 0..8 { let n = i; all.push(|| { let text = \"\"; text.pad(9000, \"\" + n); for j in 0..20 { print(text) } }) }\nparallel(all, #{max: 8});";
    for form in ["human", "ndjson", "json"] {
        let (config, policy) = (rex.config_file(), rex.policy_file());
        let arguments = ["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", form];
        let run = rex.finish(rex.command(&arguments), script.as_bytes());
        run.ends(0);
        let text = if form == "json" { run.json()["output"].to_string() } else { run.stdout.clone() };
        for n in 0..8 {
            let line = n.to_string().repeat(9000);
            assert_eq!(text.matches(&line).count(), 20, "{form} {n}");
        }
    }
}

#[test]
fn closures_within_closures_share_the_threads_of_the_run() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let run = rex.run(
        "let all = [];\nfor i in 0..6 { let n = i; all.push(|| { let more = []; for j in 0..6 { let m = j; more.push(|| { sleep(0.01); n * 10 + m }) } parallel(more, #{max: 16}) }) }\nparallel(all, #{max: 16})",
    );
    let expected: Vec<Vec<u32>> = (0..6).map(|n| (0..6).map(|m| n * 10 + m).collect()).collect();
    assert_eq!(run.ends(0).value(), json!(expected));
}

#[test]
fn an_open_file_is_shared_and_each_line_goes_to_one_closure() {
    let text: String = (0..200).map(|n| format!("{n}\n")).collect();
    let rex = Rex::new().policy(ALLOW_ALL).file("lines", &text);
    let run = rex.run(
        "let file = open(\"{data}/lines\");\nlet take = || { let got = []; loop { let line = read_line(file); if line == () { break } got.push(line) } got };\nparallel([take, take, take, take])",
    );
    let value = run.ends(0).value();
    let mut all: Vec<u32> = value
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|lines| lines.as_array().unwrap())
        .map(|line| line.as_str().unwrap().trim().parse().unwrap())
        .collect();
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<_>>());
}
