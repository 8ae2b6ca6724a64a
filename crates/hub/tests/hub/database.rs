//! The databases of hubs, as the tests read and change them beside those.

use std::path::Path;

use hub::PostgresUrl;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

/// Names the server whose databases the hubs of this process have, as a URL without a database.
pub(crate) const SERVER: &str = "HUB_TEST_POSTGRES";

/// The PostgreSQL database of the hub in a folder, made if there is none; `None` where hubs use SQLite.
pub(crate) async fn of(dir: &Path) -> Option<PostgresUrl> {
    let server = std::env::var(SERVER).ok()?;
    let name = name(dir);
    make(&server, &name).await;
    Some(PostgresUrl::parse(&format!("{server}/{name}")).expect("a URL"))
}

/// Makes a database if there is none of that name.
pub(crate) async fn make(server: &str, name: &str) {
    let options: PgConnectOptions = format!("{server}/postgres").parse().expect("a URL");
    let mut connection = options.connect().await.expect("connected");
    let made =
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE \"{name}\""))).execute(&mut connection).await;
    if let Err(error) = made {
        let code = error.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42P04"), "{error}");
    }
    connection.close().await.expect("closed");
}

/// Has statements run on the database of the hub in a folder.
pub(crate) async fn edit(dir: &Path, statements: &'static str) {
    match options_of(dir) {
        Some(options) => {
            let mut connection = options.connect().await.expect("connected");
            sqlx::raw_sql(statements).execute(&mut connection).await.expect("run");
            connection.close().await.expect("closed");
        }
        None => {
            let options = sqlite(dir).create_if_missing(true);
            let mut connection = options.connect().await.expect("opened");
            sqlx::raw_sql(statements).execute(&mut connection).await.expect("run");
            connection.close().await.expect("closed");
        }
    }
}

/// Why a statement on the database of the hub in a folder is refused.
pub(crate) async fn refusal(dir: &Path, statement: &'static str) -> String {
    match options_of(dir) {
        Some(options) => {
            let mut connection = options.connect().await.expect("connected");
            sqlx::raw_sql(statement).execute(&mut connection).await.expect_err(statement).to_string()
        }
        None => {
            let mut connection = sqlite(dir).connect().await.expect("opened");
            sqlx::raw_sql(statement).execute(&mut connection).await.expect_err(statement).to_string()
        }
    }
}

/// The rows of a query on the database of the hub in a folder, each as one text.
pub(crate) async fn rows(dir: &Path, query: &str) -> Vec<String> {
    let query = AssertSqlSafe(query.to_owned());
    match options_of(dir) {
        Some(options) => {
            let mut connection = options.connect().await.expect("connected");
            let rows = sqlx::query_scalar(query).fetch_all(&mut connection).await.expect("read");
            connection.close().await.expect("closed");
            rows
        }
        None => {
            let mut connection = sqlite(dir).connect().await.expect("opened");
            let rows = sqlx::query_scalar(query).fetch_all(&mut connection).await.expect("read");
            connection.close().await.expect("closed");
            rows
        }
    }
}

fn options_of(dir: &Path) -> Option<PgConnectOptions> {
    let server = std::env::var(SERVER).ok()?;
    Some(format!("{server}/{}", name(dir)).parse().expect("a URL"))
}

fn sqlite(dir: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(dir.join("hub/hub.sqlite"))
}

/// The temporary folder's own name is one of a kind.
fn name(dir: &Path) -> String {
    dir.file_name().expect("a name").to_string_lossy().into_owned()
}
