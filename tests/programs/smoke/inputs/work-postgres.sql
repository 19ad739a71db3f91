-- What the PostgreSQL server does under test besides pgbench. Everything printed is the same on every run; `:rows:` is
-- replaced by a number.
CREATE TABLE orders AS
SELECT i AS id, i * 7919 % 5003 AS customer, i * 31 % 9973 AS amount, md5(i::text) AS token,
    jsonb_build_object('id', i, 'items', jsonb_build_array(i % 10, 'item' || i % 1000), 'pad', repeat('x', i % 50))
        AS document
FROM generate_series(1, :rows:) AS i;
CREATE INDEX ON orders (customer, amount DESC);
CREATE INDEX ON orders USING gin (document);
ANALYZE orders;

SELECT customer % 20, count(*), sum(amount), count(DISTINCT token) FROM orders GROUP BY 1 ORDER BY 1;
SELECT md5(string_agg(token, ',' ORDER BY amount, token)) FROM orders;
SELECT md5(jsonb_agg(document ORDER BY id)::text) FROM orders WHERE id % 7 = 0;
SELECT count(*), sum(a.amount - b.amount) FROM orders a JOIN orders b ON a.id = b.customer WHERE b.token ~ '[0-9a]{4}';
SELECT count(*) FROM orders WHERE document @> '{"items": [3]}';
SELECT md5(string_agg(part, '')) FROM (
    SELECT regexp_replace(token, '([a-f]+)(\d)', '\2<\1>', 'g') AS part FROM orders ORDER BY id LIMIT 20000) AS parts;
SELECT customer, amount, rank() OVER (PARTITION BY customer % 10 ORDER BY amount DESC, id)
FROM orders WHERE customer < 30 ORDER BY customer, amount, id LIMIT 300;

DO $$
DECLARE grown text := '';
BEGIN
    FOR step IN 1..3000 LOOP
        grown := grown || repeat(chr(97 + step % 26), step % 90);
        BEGIN
            PERFORM 1 / (step % 50);
        EXCEPTION WHEN division_by_zero THEN
            grown := right(grown, 20000);
        END;
    END LOOP;
    RAISE NOTICE '%', md5(grown);
END $$;
UPDATE orders SET document = document || jsonb_build_object('more', repeat(token, 1 + id % 80)) WHERE id % 5 = 0;
DELETE FROM orders WHERE amount % 3 = 0;
VACUUM FULL orders;
SELECT count(*), sum(amount), sum(length(document::text)) FROM orders;
