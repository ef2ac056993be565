-- The scripts are linted as the server gets them, composed: `python tests/lint_lua.py`.
std = "lua51"
read_globals = { "redis", "KEYS", "ARGV" }
-- The server's sandbox has none of these.
not_globals = { "io", "os", "require", "module", "package", "print", "dofile", "loadfile", "newproxy", "debug" }
max_line_length = 120
