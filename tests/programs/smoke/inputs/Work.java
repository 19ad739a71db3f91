// What java does under test: prints one line a part, the same on every run. Argument: how many times the small work.
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

public class Work {
    static String hash(byte[] data) throws Exception {
        StringBuilder text = new StringBuilder();
        for (byte part : MessageDigest.getInstance("SHA-256").digest(data)) text.append(String.format("%02x", part));
        return text.toString();
    }

    // Objects and text on the collected heap.
    static String collections(int scale) throws Exception {
        Random random = new Random(5);
        Map<String, List<Integer>> books = new HashMap<>();
        for (int step = 0; step < 300_000 * scale; step++) {
            books.computeIfAbsent("key" + random.nextInt(20_000), key -> new ArrayList<>()).add(step);
            if (step % 3 == 0) books.remove("key" + random.nextInt(20_000));
        }
        return hash(new TreeMap<>(books).toString().getBytes());
    }

    // Direct buffers and the native state of (de)compressors, made by several threads at once.
    static String natives(int seed) throws Exception {
        Random random = new Random(seed);
        List<ByteBuffer> kept = new ArrayList<>();
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (int step = 0; step < 150; step++) {
            byte[] data = new byte[1 + random.nextInt(60_000)];
            for (int at = 0; at < data.length; at++) data[at] = (byte) ((at * seed + step) % 31);
            Deflater deflater = new Deflater(1 + step % 9);
            deflater.setInput(data);
            deflater.finish();
            ByteBuffer packed = ByteBuffer.allocateDirect(data.length + 200);
            deflater.deflate(packed);
            deflater.end();
            packed.flip();
            kept.add(packed.duplicate());
            if (kept.size() > 20) kept.remove(random.nextInt(20));
            byte[] back = new byte[data.length];
            Inflater inflater = new Inflater();
            inflater.setInput(packed);
            if (inflater.inflate(back) != data.length) throw new IllegalStateException("inflated to another length");
            inflater.end();
            digest.update(back);
        }
        return hash(digest.digest());
    }

    public static void main(String[] arguments) throws Exception {
        int scale = Integer.parseInt(arguments[0]);
        System.out.println("collections " + collections(scale));
        for (int round = 0; round < scale; round++) {
            ExecutorService pool = Executors.newFixedThreadPool(4);
            List<Callable<String>> jobs = new ArrayList<>();
            for (int job = 0; job < 12; job++) {
                int seed = round * 12 + job + 1;
                jobs.add(() -> natives(seed));
            }
            for (Future<String> answer : pool.invokeAll(jobs)) System.out.println("natives " + answer.get());
            pool.shutdown();
        }
    }
}
