//! Statements with their values, and the rows that they give.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments, AssertSqlSafe, ColumnIndex, Decode, Encode, Postgres, Row as _, SqlSafeStr as _, SqlStr,
    Sqlite, Type,
};

use super::{Connection, Handle, in_patience};

/// A statement with its values.
#[derive(Debug)]
#[must_use = "a statement does nothing until it is run"]
pub(crate) struct Query {
    text: Cow<'static, str>,
    values: Vec<Parameter>,
}

/// A statement whose values are bound next, in the order of their numbers.
pub(crate) fn query(text: &'static str) -> Query {
    Query { text: Cow::Borrowed(text), values: Vec::new() }
}

/// How many rows one statement adds: of fewer than the first any number, and of more a multiple of that up to
/// the second. So there are few statements to keep prepared, and not many for the rows of a transaction.
const FEW_ROWS: usize = 16;
const ROWS: usize = 128;

/// The most values that statements have which are given at once: as many as those of a few changes.
const JOINED_VALUES: usize = 128;

/// The statements that add rows, which begin with `text`, which ends with `VALUES`, and end with `rest`: one
/// row for each of these, in order.
pub(crate) fn insert_rows<T, R: IntoIterator<Item = Parameter>>(
    connection: &Connection,
    text: &'static str,
    rest: &'static str,
    of: &[T],
    row: impl Fn(&T) -> R,
) -> Vec<Query> {
    portions(of).map(|some| rows_query(connection, text, rest, some, &row)).collect()
}

/// Runs statements that give no rows, in order, until one fails. SQLite is given few of them at once: each
/// turn with its thread takes longer than most statements. Those of many changes it gets one by one, since it
/// keeps each text prepared, and together they would be another one every time.
pub(crate) async fn run_all(connection: &mut Connection, statements: Vec<Query>) -> sqlx::Result<()> {
    let values: usize = statements.iter().map(|statement| statement.values.len()).sum();
    if connection.is_shared() || values > JOINED_VALUES {
        for statement in statements {
            statement.execute(connection).await?;
        }
        return Ok(());
    }
    match Query::joined(statements) {
        Some(joined) => joined.execute(connection).await.map(drop),
        None => Ok(()),
    }
}

/// [`insert_rows`] of rows that are numbered as they are added, by a statement that ends with `RETURNING id`;
/// gives their numbers.
pub(crate) async fn insert_numbered_rows<T, R: IntoIterator<Item = Parameter>>(
    connection: &mut Connection,
    text: &'static str,
    of: &[T],
    row: impl Fn(&T) -> R,
) -> sqlx::Result<Vec<i64>> {
    let mut numbers = Vec::with_capacity(of.len());
    for some in portions(of) {
        let added =
            rows_query(connection, text, " RETURNING id", some, &row).fetch_values(connection).await?;
        numbers.extend::<Vec<i64>>(added);
    }
    // They are counted up row by row, but may be given in any order.
    numbers.sort_unstable();
    if numbers.len() == of.len() { Ok(numbers) } else { Err(sqlx::Error::RowNotFound) }
}

/// Rows as one statement adds them.
fn portions<T>(mut of: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let count = if of.len() < FEW_ROWS { of.len() } else { of.len().min(ROWS) / FEW_ROWS * FEW_ROWS };
        let (some, rest) = of.split_at(count);
        of = rest;
        (!some.is_empty()).then_some(some)
    })
}

/// The statement that adds some rows.
fn rows_query<T, R: IntoIterator<Item = Parameter>>(
    connection: &Connection,
    text: &'static str,
    rest: &'static str,
    of: &[T],
    row: impl Fn(&T) -> R,
) -> Query {
    let mut sql = query(text);
    for (at, item) in of.iter().enumerate() {
        sql.push(if at == 0 { "(" } else { "), (" });
        for (at, value) in row(item).into_iter().enumerate() {
            sql.push(if at == 0 { "" } else { ", " });
            if connection.is_shared() {
                sql.push_bind(value);
            } else {
                // SQLite looks for the number of each in a list of all: of hundreds, that takes longer than
                // the rows.
                sql.push("?").values.push(value);
            }
        }
    }
    sql.push(")").push(rest);
    sql
}

/// A value of a statement. What is missing has a type too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parameter {
    Integer(Option<i64>),
    Text(Option<String>),
}

impl Query {
    /// Binds the value of the next number that the text names.
    pub(crate) fn bind(mut self, value: impl Into<Parameter>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Adds to the text.
    pub(crate) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// Adds a value to the text.
    pub(crate) fn push_bind(&mut self, value: impl Into<Parameter>) -> &mut Self {
        self.values.push(value.into());
        let number = self.values.len();
        self.text.to_mut().push_str(&format!("${number}"));
        self
    }

    /// Adds values in parentheses: what follows `IN`.
    pub(crate) fn push_list(&mut self, values: impl IntoIterator<Item = Parameter>) -> &mut Self {
        self.push("(");
        for (at, value) in values.into_iter().enumerate() {
            self.push(if at == 0 { "" } else { ", " }).push_bind(value);
        }
        self.push(")")
    }

    /// All of them as one text for SQLite; nothing of none.
    fn joined(statements: Vec<Self>) -> Option<Self> {
        statements.into_iter().map(Self::in_order).reduce(|mut all, next| {
            let joined = all.text.to_mut();
            joined.push_str("; ");
            joined.push_str(&next.text);
            all.values.extend(next.values);
            all
        })
    }

    /// The same statement with its values in the order in which the text has them, each as `?`: behind other
    /// statements they have no other numbers.
    fn in_order(self) -> Self {
        if !self.text.contains('$') {
            return self;
        }
        let (mut text, mut values) = (String::with_capacity(self.text.len()), Vec::new());
        for (at, piece) in self.text.split('$').enumerate() {
            let end = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
            let (number, rest) = if at == 0 { ("", piece) } else { piece.split_at(end) };
            let value = number.parse().ok().and_then(|n: usize| self.values.get(n.checked_sub(1)?));
            match value {
                Some(value) => {
                    text.push('?');
                    values.push(value.clone());
                }
                None if at > 0 => text.extend(["$", number]),
                None => {}
            }
            text.push_str(rest);
        }
        Self { text: Cow::Owned(text), values }
    }

    /// The statement that tells how SQLite goes about this one.
    #[cfg(test)]
    pub(crate) fn explained(mut self) -> Self {
        self.text = Cow::Owned(format!("EXPLAIN QUERY PLAN {}", self.text));
        self
    }

    /// Runs it; gives how many rows it changed.
    pub(crate) async fn execute(self, connection: &mut Connection) -> sqlx::Result<u64> {
        let limit = connection.patience();
        match connection.handle() {
            Handle::Sqlite(connection) => Ok(self.sqlite()?.execute(connection).await?.rows_affected()),
            Handle::Postgres(connection) => {
                let asked = self.postgres()?.execute(connection);
                Ok(in_patience(limit, asked).await?.rows_affected())
            }
        }
    }

    /// The one row that it gives.
    pub(crate) async fn fetch_one(self, connection: &mut Connection) -> sqlx::Result<Row> {
        self.fetch_optional(connection).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The row that it gives, if it does.
    pub(crate) async fn fetch_optional(self, connection: &mut Connection) -> sqlx::Result<Option<Row>> {
        let limit = connection.patience();
        match connection.handle() {
            Handle::Sqlite(connection) => {
                Ok(self.sqlite()?.fetch_optional(connection).await?.map(Row::Sqlite))
            }
            Handle::Postgres(connection) => {
                let asked = self.postgres()?.fetch_optional(connection);
                Ok(in_patience(limit, asked).await?.map(Row::Postgres))
            }
        }
    }

    /// The rows that it gives.
    pub(crate) async fn fetch_all(self, connection: &mut Connection) -> sqlx::Result<Vec<Row>> {
        self.fetch(connection).try_collect().await
    }

    /// The rows that it gives, one after the other.
    pub(crate) fn fetch(self, connection: &mut Connection) -> BoxStream<'_, sqlx::Result<Row>> {
        let limit = connection.patience();
        match connection.handle() {
            Handle::Sqlite(connection) => rows(self.sqlite(), |query| query.fetch(connection), Row::Sqlite),
            Handle::Postgres(connection) => {
                let rows = rows(self.postgres(), |query| query.fetch(connection), Row::Postgres);
                patient(rows, limit)
            }
        }
    }

    /// The first column of the one row that it gives.
    pub(crate) async fn fetch_value<T: for<'r> Column<'r>>(
        self,
        connection: &mut Connection,
    ) -> sqlx::Result<T> {
        self.fetch_one(connection).await?.try_get(0)
    }

    /// The first column of the rows that it gives.
    pub(crate) async fn fetch_values<T: for<'r> Column<'r>>(
        self,
        connection: &mut Connection,
    ) -> sqlx::Result<Vec<T>> {
        self.fetch_all(connection).await?.iter().map(|row| row.try_get(0)).collect()
    }

    fn sqlite(self) -> sqlx::Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>> {
        let mut arguments = SqliteArguments::default();
        fill(&mut arguments, self.values)?;
        Ok(sqlx::query_with(text(self.text), arguments))
    }

    fn postgres(self) -> sqlx::Result<sqlx::query::Query<'static, Postgres, PgArguments>> {
        let mut arguments = PgArguments::default();
        fill(&mut arguments, self.values)?;
        Ok(sqlx::query_with(text(self.text), arguments))
    }
}

fn fill<A: Arguments>(arguments: &mut A, values: Vec<Parameter>) -> sqlx::Result<()>
where
    Option<i64>: for<'t> Encode<'t, A::Database> + Type<A::Database>,
    Option<String>: for<'t> Encode<'t, A::Database> + Type<A::Database>,
{
    for value in values {
        match value {
            Parameter::Integer(number) => arguments.add(number),
            Parameter::Text(text) => arguments.add(text),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(())
}

fn text(text: Cow<'static, str>) -> SqlStr {
    match text {
        Cow::Borrowed(text) => text.into_sql_str(),
        // Put together of literals alone.
        Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
    }
}

/// A stream that fails at once where the statement's values can't be sent.
fn rows<'c, Q, R>(
    query: sqlx::Result<Q>,
    fetch: impl FnOnce(Q) -> BoxStream<'c, sqlx::Result<R>>,
    wrap: fn(R) -> Row,
) -> BoxStream<'c, sqlx::Result<Row>>
where
    R: 'c,
{
    match query {
        Ok(query) => fetch(query).map_ok(wrap).boxed(),
        Err(error) => futures_util::stream::iter([Err(error)]).boxed(),
    }
}

/// The same rows, each of which comes within the limit.
fn patient<'c>(
    rows: BoxStream<'c, sqlx::Result<Row>>,
    limit: Option<Duration>,
) -> BoxStream<'c, sqlx::Result<Row>> {
    let next = move |mut rows: BoxStream<'c, sqlx::Result<Row>>| async move {
        let row = in_patience(limit, rows.try_next()).await.transpose()?;
        Some((row, rows))
    };
    futures_util::stream::unfold(rows, next).boxed()
}

/// What a column can be read as.
pub(crate) trait Column<'r>: OfSqlite<'r> + OfPostgres<'r> {}
impl<'r, T: OfSqlite<'r> + OfPostgres<'r>> Column<'r> for T {}

pub(crate) trait OfSqlite<'r>: Decode<'r, Sqlite> + Type<Sqlite> {}
impl<'r, T: Decode<'r, Sqlite> + Type<Sqlite>> OfSqlite<'r> for T {}

pub(crate) trait OfPostgres<'r>: Decode<'r, Postgres> + Type<Postgres> {}
impl<'r, T: Decode<'r, Postgres> + Type<Postgres>> OfPostgres<'r> for T {}

/// What names a column: its place from 0 on, or its name.
pub(crate) trait ColumnName: ColumnIndex<SqliteRow> + ColumnIndex<PgRow> {}
impl<I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>> ColumnName for I {}

/// A row of the answer to a statement.
#[derive(Debug)]
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// A column.
    ///
    /// # Errors
    /// There is no such column, or it can't be read as that.
    pub(crate) fn try_get<'r, T: Column<'r>>(&'r self, column: impl ColumnName) -> sqlx::Result<T> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

impl From<i64> for Parameter {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<Option<i64>> for Parameter {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<String> for Parameter {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&str> for Parameter {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&String> for Parameter {
    fn from(text: &String) -> Self {
        Self::Text(Some(text.clone()))
    }
}

impl From<Option<String>> for Parameter {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<Option<&str>> for Parameter {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<Option<&String>> for Parameter {
    fn from(text: Option<&String>) -> Self {
        Self::Text(text.cloned())
    }
}

impl From<&Option<String>> for Parameter {
    fn from(text: &Option<String>) -> Self {
        Self::Text(text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_by_few_different_statements() {
        let counts = |rows: usize| portions(&vec![(); rows]).map(<[()]>::len).collect::<Vec<_>>();
        assert_eq!(counts(0), [0; 0]);
        assert_eq!(counts(15), [15]);
        assert_eq!(counts(16), [16]);
        assert_eq!(counts(63), [48, 15]);
        assert_eq!(counts(300), [128, 128, 32, 12]);
    }

    #[test]
    fn statements_are_joined_with_their_values_in_order() {
        assert!(Query::joined(Vec::new()).is_none());
        let rows = Query { text: "INSERT INTO t VALUES (?, ?)".into(), values: vec![1.into(), 2.into()] };
        let update = query("UPDATE t SET a = $2, b = $1 WHERE a = $2 OR '$.$9'").bind("one").bind("two");
        let joined = Query::joined(vec![rows, update, query("COMMIT")]).expect("some");
        let text = "INSERT INTO t VALUES (?, ?); UPDATE t SET a = ?, b = ? WHERE a = ? OR '$.$9'; COMMIT";
        assert_eq!(joined.text, text);
        let text = |text: &str| Parameter::from(text);
        assert_eq!(joined.values, [1.into(), 2.into(), text("two"), text("one"), text("two")]);
    }

    #[test]
    fn values_are_numbered_as_they_are_added() {
        let mut sql = query("SELECT 1 WHERE a = $1").bind("x");
        sql.push(" AND b = ").push_bind(2).push(" AND c IN ").push_list(["y", "z"].map(Parameter::from));
        assert_eq!(sql.text, "SELECT 1 WHERE a = $1 AND b = $2 AND c IN ($3, $4)");
        let text = |text: &str| Parameter::from(text);
        assert_eq!(sql.values, [text("x"), Parameter::from(2), text("y"), text("z")]);
    }
}
