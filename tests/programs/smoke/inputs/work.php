<?php
// What PHP does under test: prints one line a part, the same on every run. Argument: how many times the small work.
declare(strict_types=1);
ini_set("memory_limit", "-1");
$scale = (int)$argv[1];
mt_srand(12345);

const WORDS = ["amber", "birch", "cedar", "dune", "elm", "fjord"];

function rows(int $count): array {
    $rows = [];
    for ($i = 0; $i < $count; $i++) {
        $name = str_repeat(WORDS[mt_rand(0, 5)], mt_rand(1, 4));
        $rows[] = ["id" => $i, "name" => $name, "tags" => [mt_rand(0, 99), WORDS[mt_rand(0, 5)]], "size" => mt_rand(0, 999999)];
    }
    return $rows;
}

// Arrays of arrays, filled, thinned out and filled again.
$books = [];
for ($step = 0; $step < 60000 * $scale; $step++) {
    $books["key" . mt_rand(0, 20000)][] = str_repeat("v$step", mt_rand(1, 6));
    if ($step % 3 == 0) unset($books["key" . mt_rand(0, 20000)]);
}
ksort($books);
echo "arrays ", count($books), " ", md5(serialize($books)), "\n";

// JSON, there and back.
for ($round = 0; $round < 3 * $scale; $round++) {
    $json = json_encode(rows(8000));
    echo "json ", strlen($json), " ", md5(serialize(json_decode($json, true))), "\n";
}

// Regular expressions, whose extension compiles to code of its own.
$text = implode(" ", array_map(fn($row) => $row["name"] . $row["size"], rows(20000 * $scale)));
$changed = preg_replace_callback('/(cedar|elm)(\d+)/', fn($m) => "<$m[2]:" . strtoupper($m[1]) . ">", $text);
echo "words ", preg_match_all('/\b([a-z]+)(\d+)\b/', $text, $found), " ", md5($changed), "\n";

// A document of the XML library, which is an extension's, and which allocates by itself.
$document = new DOMDocument();
$root = $document->appendChild($document->createElement("rows"));
foreach (rows(5000 * $scale) as $row) {
    $element = $root->appendChild($document->createElement($row["name"], (string)$row["size"]));
    $element->setAttribute("id", (string)$row["id"]);
}
$read = new DOMDocument();
$read->loadXML($document->saveXML());
$path = new DOMXPath($read);
echo "xml ", $path->query("//elm | //dune[@id > 100]")->length, " ", md5($read->saveXML()), "\n";
// And its errors, which the extension frees.
libxml_use_internal_errors(true);
$read->loadXML("<rows><row></rows>");
echo "errors ", count(libxml_get_errors()), "\n";

// A database in memory, of another extension.
$database = new PDO("sqlite::memory:");
$database->exec("create table rows (id integer, name text, size integer)");
$insert = $database->prepare("insert into rows values (?, ?, ?)");
foreach (rows(6000 * $scale) as $row) $insert->execute([$row["id"], $row["name"], $row["size"]]);
$sums = $database->query("select name, count(*), sum(size) from rows group by name order by name")->fetchAll(PDO::FETCH_NUM);
echo "database ", count($sums), " ", md5(serialize($sums)), "\n";

// Objects in cycles, which the collector of PHP finds.
for ($i = 0; $i < 50000 * $scale; $i++) {
    $one = new stdClass();
    $one->other = new stdClass();
    $one->other->other = $one;
}
unset($one);
echo "cycles ", gc_collect_cycles() > 0 ? "collected" : "none", "\n";
