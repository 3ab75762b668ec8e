import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;

/** The command behind clients/java/run. */
final class Command {
    private static final String USAGE = """
            usage: run sign METHOD PATH TIMESTAMP NONCE [BODYFILE]    prints X-Signature
                   run METHOD URL [BODYFILE]                          signs, sends, prints the body; exit 0 for 2xx, else 1

            COUNTERSIGN_KEY         the private key: PKCS#8 PEM, or the file that holds it
            COUNTERSIGN_MACHINE_ID  the machine's id
            COUNTERSIGN_QUERY       strip: leave the query unsigned; else it is signed
            """;

    public static void main(String[] words) throws InterruptedException {
        try {
            System.exit(run(words));
        } catch (IOException | IllegalArgumentException error) {
            System.err.println("run: " + (error.getMessage() == null ? error : error.getMessage()));
            System.exit(1);
        }
    }

    private static int run(String[] words) throws IOException, InterruptedException {
        boolean signing = words.length > 0 && words[0].equals("sign");
        String[] given = signing ? Arrays.copyOfRange(words, 1, words.length) : words;
        int least = signing ? 4 : 2;
        String key = System.getenv("COUNTERSIGN_KEY");
        if (given.length < least || given.length > least + 1 || key == null) {
            System.err.print(USAGE);
            return 64;
        }
        key = key.contains("-----BEGIN") ? key : Files.readString(Path.of(key));
        String machineId = System.getenv().getOrDefault("COUNTERSIGN_MACHINE_ID", "");
        var countersign = new Countersign(machineId, key, !"strip".equals(System.getenv("COUNTERSIGN_QUERY")));
        byte[] body = given.length > least ? Files.readAllBytes(Path.of(given[least])) : null;
        if (signing) {
            byte[] signed = body == null ? new byte[0] : body;
            System.out.println(countersign.sign(given[0], given[1], given[2], given[3], signed));
            return 0;
        }
        var publisher = body == null ? BodyPublishers.noBody() : BodyPublishers.ofByteArray(body);
        var request = HttpRequest.newBuilder(URI.create(given[1])).method(given[0], publisher)
                .timeout(Duration.ofMinutes(1)).build();
        var client = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(30)).build();
        var answer = countersign.send(client, request, BodyHandlers.ofByteArray());
        boolean good = answer.statusCode() / 100 == 2;
        byte[] status = ("HTTP " + answer.statusCode() + "\n").getBytes();
        (good ? System.out : System.err).write(good || answer.body().length > 0 ? answer.body() : status);
        return good ? 0 : 1;
    }
}
