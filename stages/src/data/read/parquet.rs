//! Apache Parquet, column by column as JSON has it.

use std::fs::File;

use parquet::{
    basic::Compression,
    file::{
        metadata::{ParquetMetaData, RowGroupMetaData},
        reader::FileReader,
        serialized_reader::SerializedFileReader,
    },
    record::Field,
};
use serde_json::{Number, Value};

use super::record::{Cell, Record, Records, twice};
use crate::artifact::json::Object;

/// Milliseconds from 1970 to the year 10000, and days.
const LAST_MILLISECOND: u64 = 253_402_300_800_000;
const LAST_DAY: u32 = 2_932_897;

pub(super) fn records(file: File) -> Result<Records, String> {
    let words =
        |error: parquet::errors::ParquetError| format!("not a sound Parquet file ({error})");
    let reader = SerializedFileReader::new(file).map_err(words)?;
    sound(reader.metadata())?;
    let rows = reader.into_iter();
    let records = (1..).zip(rows).map(move |(place, row)| {
        let row = row.map_err(|error| (place, words(error)))?;
        let cells = row.into_columns().into_iter().map(|(name, field)| (name, cell(&field)));
        Ok(Record { place, cells: cells.collect() })
    });
    Ok(Box::new(records))
}

fn sound(file: &ParquetMetaData) -> Result<(), String> {
    let fields = file.file_metadata().schema().get_fields();
    let names: Vec<_> = fields.iter().map(|field| field.name().to_owned()).collect();
    if let Some(name) = twice(&names) {
        return Err(format!("the column `{name}` stands there twice: give one another name"));
    }
    let mut columns = file.row_groups().iter().flat_map(RowGroupMetaData::columns);
    match columns.find_map(|column| unread(column.compression())) {
        None => Ok(()),
        Some(name) => Err(format!(
            "it is compressed with {name}, which gradus does not read: write it with zstd, snappy, \
             gzip or no compression"
        )),
    }
}

/// The name of a compression that is not read.
fn unread(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::ZSTD(_) => None,
        Compression::BROTLI(_) => Some("brotli"),
        Compression::LZO => Some("LZO"),
        Compression::LZ4 | Compression::LZ4_RAW => Some("LZ4"),
    }
}

fn cell(field: &Field) -> Cell {
    value(field).map_or_else(Cell::Foreign, Cell::Value)
}

/// A value as JSON has it; dates, times and decimal numbers as text.
fn value(field: &Field) -> Result<Value, &'static str> {
    let number = |number: f64| {
        let number = Number::from_f64(number).ok_or("a number that is not finite")?;
        Ok(Value::Number(number))
    };
    let dated = |is_near: bool| {
        if is_near { Ok(field.to_string().into()) } else { Err("a date beyond the year 9999") }
    };
    match field {
        Field::Null => Ok(Value::Null),
        Field::Bool(value) => Ok((*value).into()),
        Field::Byte(value) => Ok((*value).into()),
        Field::Short(value) => Ok((*value).into()),
        Field::Int(value) => Ok((*value).into()),
        Field::Long(value) => Ok((*value).into()),
        Field::UByte(value) => Ok((*value).into()),
        Field::UShort(value) => Ok((*value).into()),
        Field::UInt(value) => Ok((*value).into()),
        Field::ULong(value) => Ok((*value).into()),
        Field::Float16(value) => number(f64::from(*value)),
        Field::Float(value) => number(f64::from(*value)),
        Field::Double(value) => number(*value),
        Field::Str(text) => Ok(text.as_str().into()),
        Field::Bytes(_) => Err("bytes that are not marked as text"),
        Field::Decimal(_) | Field::TimeMillis(_) | Field::TimeMicros(_) => {
            Ok(field.to_string().into())
        }
        Field::Date(days) => dated(days.unsigned_abs() < LAST_DAY),
        Field::TimestampMillis(at) => dated(at.unsigned_abs() < LAST_MILLISECOND),
        Field::TimestampMicros(at) => dated(at.unsigned_abs() / 1000 < LAST_MILLISECOND),
        Field::Group(row) => {
            object(row.get_column_iter().map(|(name, field)| Ok((name.clone(), value(field)?))))
        }
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            object(map.entries().iter().map(|(key, item)| match value(key)? {
                Value::String(key) => Ok((key, value(item)?)),
                _ => Err("a map whose keys are not text"),
            }))
        }
    }
}

fn object(
    entries: impl Iterator<Item = Result<(String, Value), &'static str>>,
) -> Result<Value, &'static str> {
    let mut object = Object::new();
    for entry in entries {
        let (name, value) = entry?;
        if object.insert(name, value).is_some() {
            return Err("an object with a key that stands there twice");
        }
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::{
        column::writer::ColumnWriter, data_type::ByteArray, file::writer::SerializedFileWriter,
        schema::parser::parse_message_type,
    };

    use super::*;

    /// What is read of a file with one row, in which every column of bytes holds `a` and every other 7.
    fn read(columns: &str) -> Result<Vec<(String, Cell)>, String> {
        let schema = Arc::new(parse_message_type(&format!("message m {{ {columns} }}")).unwrap());
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            let text = [ByteArray::from("a")];
            let written = match column.untyped() {
                ColumnWriter::Int64ColumnWriter(numbers) => numbers.write_batch(&[7], None, None),
                ColumnWriter::ByteArrayColumnWriter(texts) => texts.write_batch(&text, None, None),
                _ => panic!("a column of another type"),
            };
            written.unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let record = records(file)?.next().unwrap();
        Ok(record.map_err(|(_, why)| why)?.cells)
    }

    #[test]
    fn numbers_times_and_texts_are_read_and_bytes_are_said_to_be_none_of_them() {
        let columns = "REQUIRED BYTE_ARRAY text (UTF8); REQUIRED INT64 id; \
            REQUIRED INT64 at (TIMESTAMP_MILLIS); REQUIRED BYTE_ARRAY raw;";
        let cells = read(columns).unwrap().into_iter().map(|(_, cell)| cell).collect::<Vec<_>>();
        let at = Cell::Value("1970-01-01 00:00:00.007 +00:00".into());
        let raw = Cell::Foreign("bytes that are not marked as text");
        assert_eq!(cells, [Cell::Value("a".into()), Cell::Value(7.into()), at, raw]);
    }

    #[test]
    fn a_column_that_stands_there_twice_is_refused() {
        let columns = "REQUIRED INT64 id; REQUIRED INT64 id;";
        insta::assert_snapshot!(read(columns).unwrap_err(), @"the column `id` stands there twice: give one another name");
    }

    #[test]
    fn a_compression_that_is_not_read_has_a_name() {
        assert_eq!(
            unread(Compression::BROTLI(parquet::basic::BrotliLevel::default())),
            Some("brotli")
        );
        assert_eq!(unread(Compression::ZSTD(parquet::basic::ZstdLevel::default())), None);
    }
}
