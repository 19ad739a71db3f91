# What perl does under test: prints one line a part, the same on every run. Argument: how many times the small work.
use strict;
use warnings;
use threads;
use Digest::MD5 qw(md5_hex);

my $scale = shift // 1;
my $seed = 12345;

sub roll {
    my ($below) = @_;
    $seed = ($seed * 1103515245 + 12345) % 2147483648;
    return int($seed / 65536) % $below;
}

# Hashes of hashes and lists, filled, thinned out and filled again.
my %books;
for my $step (1 .. 80_000 * $scale) {
    my $key = "key" . roll(30_000);
    push @{ $books{$key}{list} }, "v$step" x (1 + roll(6));
    $books{$key}{count}++;
    delete $books{ "key" . roll(30_000) } if $step % 3 == 0;
}
my $digest = md5_hex(join "\n", map { "$_ $books{$_}{count} @{ $books{$_}{list} }" } sort keys %books);
print "hashes ", scalar(keys %books), " $digest\n";

# A text, cut up by regular expressions and put together again.
my $text = join " ", map { ("amber", "birch", "cedar", "dune", "elm")[roll(5)] . roll(1000) } 1 .. 40_000 * $scale;
my %words;
$words{$1} += $2 while $text =~ /\b([a-z]+)(\d+)\b/g;
(my $changed = $text) =~ s/(cedar|elm)(\d+)/<$2:@{[ uc $1 ]}>/g;
print "words ", join(",", map { "$_=$words{$_}" } sort keys %words), " ", md5_hex($changed), "\n";

# Strings that grow by appending and shrink by cutting off their front.
my $rope = "";
for my $step (1 .. 150_000 * $scale) {
    $rope .= chr(97 + roll(26)) x (1 + roll(40));
    $rope = substr $rope, length($rope) >> 1 if length($rope) > 1_500_000;
}
print "rope ", length($rope), " ", md5_hex($rope), "\n";

# Sorting by several keys through a list of lists.
my @rows = map { [ roll(500), "name" . roll(100_000), $_ ] } 1 .. 40_000 * $scale;
my @sorted = sort { $a->[0] <=> $b->[0] or $a->[1] cmp $b->[1] or $a->[2] <=> $b->[2] } @rows;
print "sorted ", md5_hex(join ",", map { "@$_" } @sorted), "\n";
undef @rows;

# Interpreter threads: each starts with a copy of all the data above, made and freed by different threads.
for my $round (1 .. $scale) {
    my @threads = map {
        my $part = $_;
        threads->create(sub {
            my %own = map { ($sorted[$_][1] . $part, $sorted[$_]) } grep { $_ % 4 == $part } 0 .. $#sorted;
            return md5_hex(join ",", map { "$_ $own{$_}[2]" } sort keys %own);
        });
    } 0 .. 3;
    print "threads ", join(" ", map { $_->join } @threads), "\n";
}

# Forked children that change what they inherited.
for my $child (1 .. 8) {
    my $pid = open(my $pipe, "-|") // die "fork: $!";
    if (!$pid) {
        $_->[1] .= "c$child" for @sorted;
        print md5_hex(join ",", map { $_->[1] } @sorted), "\n";
        exit 0;
    }
    my $answer = <$pipe>;
    close $pipe or die "child $child: $?";
    print "child $child $answer";
}
