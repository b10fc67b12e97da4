//! Value parsers: the possible values of each argument, for shell completion, and error texts for
//! numbers. The types of the values parse and reject them.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParser};
use clap::{Arg, Command, value_parser};
use strum::VariantArray;

use crate::desk::Region;
use crate::domain::job::{Library, TargetStatus};
use crate::manifest::OnConflict;
use crate::sandbox::{AdminCode, Fault, JsonCode, RateCode, UnknownIds, Window};

/// `arg` with its value parser.
pub(super) fn with_value_parser(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "region" => with_suggestions::<Region>(arg),
        "library" => with_possible_values::<Library, _>(arg, read::<Library>),
        "status" => with_possible_values::<TargetStatus, _>(arg, read::<TargetStatus>),
        "on_conflict" => with_possible_values::<OnConflict, _>(arg, read::<OnConflict>),
        "window" => with_suggestions::<Window>(arg),
        "unknown_ids" => with_suggestions::<UnknownIds>(arg),
        "rate_code" => with_suggestions::<RateCode>(arg),
        "admin_code" => with_suggestions::<AdminCode>(arg),
        "json_code" => with_suggestions::<JsonCode>(arg),
        "poison" => with_suggestions::<Fault>(arg),
        "addr" => arg.value_parser(read_address),
        _ => number(arg),
    }
}

/// Replaces clap's error texts for numbers by ones that say what to write.
fn number(arg: Arg) -> Arg {
    let is_of = |parser: ValueParser| arg.get_value_parser().type_id() == parser.type_id();
    if is_of(value_parser!(u64).into()) {
        return arg.value_parser(whole::<u64>);
    }
    if is_of(value_parser!(u32).into()) {
        return arg.value_parser(whole::<u32>);
    }
    if is_of(value_parser!(usize).into()) {
        return arg.value_parser(whole::<usize>);
    }
    if is_of(value_parser!(i64).into()) {
        return arg.value_parser(signed);
    }
    if is_of(value_parser!(f64).into()) {
        return arg.value_parser(with_parts);
    }
    arg
}

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "not a whole number from 0: write digits alone".to_owned())
}

fn signed(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "not a whole number: write digits, as 6 or -50003".to_owned())
}

fn with_parts(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "not a number: write digits, as 5 or 0.5".to_owned())
}

fn read_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an address with a port: write 127.0.0.1:8047".to_owned())
}

fn read<T: FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.parse()
}

/// Suggests values but accepts any: `config/` validates these, since they may come from the file too.
fn with_suggestions<T: VariantArray>(arg: Arg) -> Arg
where
    &'static str: From<&'static T>,
{
    with_possible_values::<T, _>(arg, StringValueParser::new())
}

/// Hides the possible values in the help, which lists them in its text.
fn with_possible_values<T, P>(arg: Arg, parser: P) -> Arg
where
    T: VariantArray,
    &'static str: From<&'static T>,
    P: TypedValueParser,
    P::Value: Send + Sync + Clone,
{
    let values = T::VARIANTS.iter().map(Into::into).collect();
    arg.value_parser(PossibleValues { parser, values }).hide_possible_values(true)
}

/// A parser with possible values for shell completion, which does not restrict its values.
#[derive(Clone)]
struct PossibleValues<P> {
    parser: P,
    values: Vec<&'static str>,
}

impl<P: TypedValueParser> TypedValueParser for PossibleValues<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<P::Value, clap::Error> {
        self.parser.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().map(PossibleValue::new)))
    }
}
