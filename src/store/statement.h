// RAII over one SQLite connection's statements and transactions.
//
// A Database owns the connection; Statement and Transaction borrow it and must not outlive it. None of them locks: the
// owner's mutex does. bind() keeps the first failure and step() reports it, so that binding reads as a chain. SQLite's
// result codes become our errors in sqlite_error(): "disk_full", "database_busy", "database_corrupt", "already_exists",
// "reference_not_found", else "database_failed".
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace mayfly {

struct CloseDatabase {
  void operator()(sqlite3* db) const;
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;

// Creates the file with mode 0600 if it is not there.
Result<Database> open_database(const std::string& path, int busy_timeout_ms);
Error sqlite_error(sqlite3* db, std::string_view what);
// One or more statements without parameters or rows of interest.
Status execute(sqlite3* db, const char* sql);

class Statement {
 public:
  static Result<Statement> prepare(sqlite3* db, std::string_view sql);

  Statement& bind(std::string_view text);
  Statement& bind(std::uint64_t number);
  Statement& bind(double number);
  template <typename... A>
  Statement& bind_all(const A&... args) {
    (bind(args), ...);
    return *this;
  }
  Result<bool> step();  // true: a row is there
  Status run();         // steps to the end
  std::string text(int column) const;
  std::uint64_t number(int column) const;
  double real(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  Statement(sqlite3* db, sqlite3_stmt* statement) : db_(db), statement_(statement) {}

  sqlite3* db_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int next_parameter_ = 1;
  int bind_failure_ = 0;
};

// Prepare, bind, run: for statements whose rows nobody reads.
template <typename... A>
Status run(sqlite3* db, std::string_view sql, const A&... args) {
  auto statement = Statement::prepare(db, sql);
  if (!statement.ok()) return std::move(statement.error());
  return statement->bind_all(args...).run();
}

// BEGIN IMMEDIATE … COMMIT; rolls back on destruction if commit() was not reached or failed.
class Transaction {
 public:
  static Result<Transaction> begin(sqlite3* db);
  Transaction(Transaction&& other) noexcept : db_(other.db_) { other.db_ = nullptr; }
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Status commit();

 private:
  explicit Transaction(sqlite3* db) : db_(db) {}
  sqlite3* db_;
};

}  // namespace mayfly
