-- What sqlite3 does under test. Everything printed is the same on every run; `:rows:` is replaced by a number.
PRAGMA journal_mode = wal;
PRAGMA synchronous = off;
PRAGMA cache_size = -4000;
PRAGMA threads = 2;

CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, region TEXT, note TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, amount INTEGER, day INTEGER, document TEXT);

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows: / 20)
INSERT INTO customers
SELECT i, printf('customer %d', i * 7919 % 100003), char(65 + i % 26) || char(65 + i % 7), hex(zeroblob(i % 300))
FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows:)
INSERT INTO orders
SELECT i, 1 + i * 104729 % (:rows: / 20), i * 31 % 9973, i * 17 % 365,
    json_object('id', i, 'items', json_array(i % 10, i % 100, printf('item%d', i % 1000)), 'pad', hex(zeroblob(i % 40)))
FROM n;

CREATE INDEX orders_by_customer ON orders (customer, day);
CREATE INDEX orders_by_item ON orders (json_extract(document, '$.items[2]'), amount);
ANALYZE;

SELECT region, count(*), sum(amount), max(length(note)), group_concat(DISTINCT day % 10)
FROM orders JOIN customers ON customers.id = orders.customer GROUP BY region ORDER BY region;

SELECT day, total, sum(total) OVER (ORDER BY day ROWS 6 PRECEDING), rank() OVER (ORDER BY total DESC, day)
FROM (SELECT day, sum(amount) AS total FROM orders GROUP BY day) ORDER BY day;

SELECT json_extract(document, '$.items[2]') AS item, count(*), sum(json_array_length(document, '$.items')), min(amount)
FROM orders GROUP BY item HAVING sum(amount) % 3 = 0 ORDER BY 4 DESC, item LIMIT 200;

SELECT count(*), sum(length(listing)) FROM (
    SELECT customer, group_concat(document, ';') AS listing
    FROM (SELECT * FROM orders ORDER BY amount, id) GROUP BY customer);

CREATE VIRTUAL TABLE words USING fts5 (name, note);
INSERT INTO words (name, note) SELECT name, region || ' ' || printf('item%d day%d', id % 500, id % 365) FROM customers;
SELECT rowid, name FROM words WHERE words MATCH 'item7 OR day3' ORDER BY rowid LIMIT 100;

BEGIN;
UPDATE orders SET document = json_set(document, '$.pad', hex(zeroblob(amount % 200))) WHERE day % 3 = 0;
DELETE FROM orders WHERE amount % 5 = 0;
SAVEPOINT inner_work;
UPDATE orders SET amount = amount + 1;
ROLLBACK TO inner_work;
COMMIT;
VACUUM;
SELECT count(*), sum(amount), sum(length(document)) FROM orders;
PRAGMA integrity_check;
