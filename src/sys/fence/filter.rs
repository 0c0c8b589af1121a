//! From rules to one filter: a search tree over the numbers of the calls, so that what the kernel has to load, compile and go through is short.
//!
//! `SeccompFilter` of the crate compares with each number in turn. The kernel goes through the whole filter for every number once, when it is loaded
//! (seccomp_cache_prepare in kernel/seccomp.c): a list of 130 calls took it most of a millisecond, the tree takes eight comparisons for each.

use crate::error::Result;
use seccompiler::{BpfProgram, SeccompAction, SeccompRule, TargetArch, sock_filter};
use std::collections::BTreeMap;

/// By number: any one of the rules has to match; none at all: the call matches.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What a filter answers.
pub(super) struct Answers {
    pub otherwise: SeccompAction,
    pub matched: SeccompAction,
    /// Calls with an answer of their own, whatever the rules say.
    pub own: Vec<(i64, SeccompAction)>,
}

/// Most instructions that the kernel takes (BPF_MAXINSNS of linux/bpf_common.h).
const MAX: usize = 4096;

// The instructions that are needed, as linux/filter.h and linux/bpf_common.h have them.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Where `struct seccomp_data` has the number and the architecture (seccomp(2)).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// `AUDIT_ARCH_*` of linux/audit.h.
const X86_64: u32 = 0xC000_003E;
const AARCH64: u32 = 0xC000_00B7;
const RISCV64: u32 = 0xC000_00F3;

/// What happens to the numbers from one on, up to the next row.
struct Row {
    from: u32,
    code: BpfProgram,
}

/// One filter. Calls of another architecture than this one end the process.
///
/// # Errors
/// When it would be longer than the kernel takes.
pub(super) fn compile(rules: Rules, answers: &Answers, arch: TargetArch) -> Result<BpfProgram> {
    let audit = match arch {
        TargetArch::x86_64 => X86_64,
        TargetArch::aarch64 => AARCH64,
        TargetArch::riscv64 => RISCV64,
    };
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        jump(JUMP_IF_EQUAL, audit, 1, 0),
        statement(RETURN, u32::from(SeccompAction::KillProcess)),
        statement(LOAD, NUMBER),
    ];
    program.extend(tree(&rows(rules, answers)?));
    if program.len() > MAX {
        return Err(super::calls::failed("the filter is too long"));
    }
    Ok(program)
}

/// Neighbours that are treated alike are one row.
fn rows(rules: Rules, answers: &Answers) -> Result<Vec<Row>> {
    let otherwise = vec![statement(RETURN, u32::from(answers.otherwise.clone()))];
    let mut calls: BTreeMap<u32, BpfProgram> = BTreeMap::new();
    let number = |call: i64| u32::try_from(call).map_err(|_| super::calls::failed("a call has no number"));
    for (call, chain) in rules {
        calls.insert(number(call)?, code(chain, answers));
    }
    for (call, action) in &answers.own {
        calls.insert(number(*call)?, vec![statement(RETURN, u32::from(action.clone()))]);
    }
    let mut rows = vec![Row { from: 0, code: otherwise.clone() }];
    let mut next = 0;
    let mut add = |from: u32, code: BpfProgram| {
        rows.pop_if(|last| last.from == from);
        // What looks at arguments is not merged: it would be the same code twice only by chance.
        if rows.last().is_none_or(|last| last.code != code) {
            rows.push(Row { from, code });
        }
    };
    for (call, code) in calls {
        if call > next {
            add(next, otherwise.clone());
        }
        add(call, code);
        next = call.saturating_add(1);
    }
    add(next, otherwise);
    Ok(rows)
}

/// The rules of one call, one after the other.
fn code(chain: Vec<SeccompRule>, answers: &Answers) -> BpfProgram {
    let matched = statement(RETURN, u32::from(answers.matched.clone()));
    if chain.is_empty() {
        return vec![matched];
    }
    let mut code = BpfProgram::new();
    for rule in chain {
        // Goes past its end where it does not match.
        code.extend(BpfProgram::from(rule));
        code.push(matched.clone());
    }
    code.push(statement(RETURN, u32::from(answers.otherwise.clone())));
    code
}

fn tree(rows: &[Row]) -> BpfProgram {
    let (below, above) = rows.split_at(rows.len() / 2);
    let Some(first) = above.first() else { return BpfProgram::new() };
    if below.is_empty() {
        return first.code.clone();
    }
    let (below, above) = (tree(below), tree(above));
    let mut program = match u8::try_from(below.len()) {
        Ok(length) => vec![jump(JUMP_IF_AT_LEAST, first.from, length, 0)],
        // Conditional jumps reach 255 instructions.
        Err(_) => vec![jump(JUMP_IF_AT_LEAST, first.from, 0, 1), statement(JUMP, u32::try_from(below.len()).unwrap_or(u32::MAX))],
    };
    program.extend(below);
    program.extend(above);
    program
}

fn statement(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use seccompiler::{SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition, SeccompFilter};

    /// What a filter says of a call: the part of the machine of linux/filter.h that filters use.
    fn run(program: &BpfProgram, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            NUMBER => number,
            ARCHITECTURE => arch,
            _ => {
                let (argument, high) = ((offset - 16) / 8, !offset.is_multiple_of(8));
                let value = arguments[argument as usize];
                if high { (value >> 32) as u32 } else { value as u32 }
            }
        };
        let (mut at, mut a) = (0, 0);
        for _ in 0..MAX {
            let instruction = &program[at];
            at += 1;
            let mut branch = |yes: bool| at += usize::from(if yes { instruction.jt } else { instruction.jf });
            match instruction.code {
                LOAD => a = word(instruction.k),
                JUMP => at += instruction.k as usize,
                JUMP_IF_EQUAL => branch(a == instruction.k),
                0x25 => branch(a > instruction.k),
                JUMP_IF_AT_LEAST => branch(a >= instruction.k),
                0x54 => a &= instruction.k,
                RETURN => return instruction.k,
                other => panic!("instruction {other:#x}"),
            }
        }
        panic!("it does not end")
    }

    const ARCH: TargetArch = TargetArch::x86_64;
    const NO: u32 = 0x0005_0001;
    const YES: u32 = 0x7fff_0000;

    fn answers(own: Vec<(i64, SeccompAction)>) -> Answers {
        Answers { otherwise: SeccompAction::Errno(1), matched: SeccompAction::Allow, own }
    }
    fn is(argument: u8, operator: Op, value: u64) -> SeccompRule {
        SeccompRule::new(vec![Condition::new(argument, Len::Dword, operator, value).unwrap()]).unwrap()
    }

    #[test]
    fn it_says_what_the_crates_own_compiler_says() {
        // Deterministic chance: sets of calls of all sizes, with neighbours and gaps, with and without conditions.
        let mut seed = 7_u64;
        let mut chance = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for size in [1, 2, 3, 7, 40, 150] {
            let mut rules = Rules::new();
            for _ in 0..size {
                let mut chain = Vec::new();
                for _ in 0..chance(4) {
                    chain.push(is(chance(3) as u8, if chance(2) == 0 { Op::Eq } else { Op::Ne }, chance(5)));
                }
                let number = if chance(9) == 0 { 0x4000_0000 + chance(500) } else { chance(460) };
                rules.insert(number as i64, chain);
            }
            let theirs: BpfProgram =
                SeccompFilter::new(rules.clone(), SeccompAction::Errno(1), SeccompAction::Allow, ARCH).unwrap().try_into().unwrap();
            let ours = compile(rules, &answers(Vec::new()), ARCH).unwrap();
            for number in (0..470).chain(0x4000_0000..0x4000_0200).chain([u32::MAX]) {
                for arguments in [[0; 6], [1, 2, 3, 4, 5, 6], [4, 0, 1, 0, 0, 0], [chance(5), chance(5), chance(5), 0, 0, 0]] {
                    let (ours, theirs) = (run(&ours, X86_64, number, arguments), run(&theirs, X86_64, number, arguments));
                    assert_eq!(ours, theirs, "{size} calls, call {number}, {arguments:?}");
                    assert!(ours == NO || ours == YES);
                }
            }
        }
    }

    #[test]
    fn another_architecture_ends_the_process() {
        let ours = compile(Rules::from([(0, Vec::new())]), &answers(Vec::new()), ARCH).unwrap();
        assert_eq!(run(&ours, X86_64, 0, [0; 6]), YES);
        assert_eq!(run(&ours, 0x4000_0003, 0, [0; 6]), 0x8000_0000);
    }

    #[test]
    fn a_call_can_have_its_own_answer() {
        let ours = compile(Rules::from([(5, Vec::new()), (6, Vec::new())]), &answers(vec![(6, SeccompAction::Errno(38))]), ARCH).unwrap();
        let answer = |number| run(&ours, X86_64, number, [0; 6]);
        assert_eq!([answer(4), answer(5), answer(6), answer(7)], [NO, YES, 0x0005_0026, NO]);
    }

    #[test]
    fn what_no_kernel_takes_is_an_error() {
        let long: Rules = (0..400).map(|call| (call * 2, (0..9).map(|value| is(0, Op::Eq, value)).collect())).collect();
        assert!(compile(long, &answers(Vec::new()), ARCH).is_err());
    }
}
