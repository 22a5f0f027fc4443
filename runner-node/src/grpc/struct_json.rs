//! A `google.protobuf.Struct` as JSON, written as gRPC writes it.

use prost_types::value::Kind;
use prost_types::{Struct, Value as ProtoValue};
use serde_json::{Map, Number, Value};

/// The largest whole number up to which all are exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The JSON of `message`.
pub(super) fn of_struct(message: Struct) -> Value {
    let fields = message.fields.into_iter();
    Value::Object(
        fields
            .map(|(key, value)| (key, of_value(value)))
            .collect::<Map<_, _>>(),
    )
}

fn of_value(value: ProtoValue) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => of_number(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(truth)) => Value::Bool(truth),
        Some(Kind::StructValue(inner)) => of_struct(inner),
        Some(Kind::ListValue(list)) => {
            Value::Array(list.values.into_iter().map(of_value).collect())
        }
    }
}

/// A whole number without a point; what JSON has no number for is nothing.
fn of_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
