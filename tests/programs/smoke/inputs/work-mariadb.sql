-- Tables of :rows: rows, made from their numbers, and queries whose answers depend on nothing else.
CREATE DATABASE shop;
USE shop;
CREATE TABLE orders (
    id INT PRIMARY KEY, customer INT, amount DECIMAL(10, 2), placed DATE, note VARCHAR(800), details JSON, KEY (customer)
) ENGINE = InnoDB;
INSERT INTO orders
SELECT seq, seq * 7919 % 997, seq * 31 % 10007 / 100, '2020-01-01' + INTERVAL seq % 1500 DAY,
       CONCAT(REPEAT(MD5(seq), 1 + seq % 9), seq), JSON_OBJECT('number', seq, 'tags', JSON_ARRAY(seq % 7, MD5(seq % 13)))
FROM seq_1_to_:rows:;
CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(60), FULLTEXT (name)) ENGINE = InnoDB;
INSERT INTO customers SELECT seq - 1, CONCAT('customer ', MD5(seq), IF(seq % 5, ' plain', ' golden')) FROM seq_1_to_997;
UPDATE orders SET note = CONCAT(note, note) WHERE id % 11 = 0;
DELETE FROM orders WHERE id % 17 = 3;
ALTER TABLE orders ADD INDEX (placed, amount), ADD INDEX (note(40));
SELECT count(*), sum(amount), min(placed), max(note) FROM orders;
SELECT customer, count(*), sum(amount), group_concat(id ORDER BY amount DESC, id SEPARATOR ' ')
FROM orders GROUP BY customer ORDER BY sum(amount) DESC, customer LIMIT 50;
SELECT name, placed, amount, row_number() OVER (PARTITION BY customer ORDER BY amount, orders.id) place,
       sum(amount) OVER (PARTITION BY customer ORDER BY orders.id) total
FROM orders JOIN customers ON customers.id = customer ORDER BY total DESC, orders.id LIMIT 200;
SELECT json_value(details, '$.tags[1]') tag, count(*), sum(json_value(details, '$.number')) FROM orders
GROUP BY tag ORDER BY tag;
SELECT note, id FROM orders ORDER BY reverse(note), id LIMIT 100;
SELECT count(*) FROM customers WHERE MATCH (name) AGAINST ('golden');
WITH RECURSIVE chain AS (SELECT 1 n, CAST('1' AS CHAR(4000)) path
    UNION ALL SELECT n + 1, CONCAT(path, '-', n + 1) FROM chain WHERE n < 300) SELECT n, length(path), md5(path) FROM chain;
SELECT a.customer, count(DISTINCT b.placed) FROM orders a JOIN orders b USING (customer)
WHERE a.id % 97 = 1 GROUP BY a.customer ORDER BY 2 DESC, 1 LIMIT 20;
