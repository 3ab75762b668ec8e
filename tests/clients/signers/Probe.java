import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;

/** What an application may do with the signer for Java: Probe CASE URL, with the key in $COUNTERSIGN_KEY. */
final class Probe {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static Countersign countersign;

    public static void main(String[] words) throws Exception {
        Path key = Path.of(System.getenv("COUNTERSIGN_KEY"));
        countersign = new Countersign("web-1", Files.readString(key));
        URI url = URI.create(words[1]);
        switch (words[0]) {
            case "many" -> many(url);
            case "twice" -> {
                HttpRequest request = post(url, BodyPublishers.ofString("body"));
                System.out.println(told(CLIENT, request) + " " + told(CLIENT, request));
            }
            case "streamed" -> {
                var stream = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(new byte[4]));
                System.out.println(told(CLIENT, post(url, stream)));
            }
            case "kinds" -> {
                for (var body : List.of(BodyPublishers.ofString("text"), BodyPublishers.ofByteArray(new byte[70_000]),
                        BodyPublishers.ofFile(key), BodyPublishers.noBody())) {
                    System.out.println(told(CLIENT, post(url, body)));
                }
                var request = post(url, BodyPublishers.ofString("later"));
                var answer = countersign.sendAsync(CLIENT, request, BodyHandlers.ofString());
                System.out.println(answer.join().statusCode());
                System.out.println(told(CLIENT, HttpRequest.newBuilder(URI.create(url + "/\u00e9")).build()));
            }
            case "redirected" -> {
                var follows = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.ALWAYS).build();
                System.out.println(told(CLIENT, HttpRequest.newBuilder(url).build()));
                System.out.println(told(follows, HttpRequest.newBuilder(url).build()));
            }
        }
        System.exit(0);
    }

    private static void many(URI url) throws Exception {
        Callable<String> send = () -> told(CLIENT, HttpRequest.newBuilder(url).build());
        var pool = Executors.newFixedThreadPool(16);
        var seen = new TreeSet<String>();
        for (var answer : pool.invokeAll(IntStream.range(0, 200).mapToObj(i -> send).toList())) {
            seen.add(answer.get());
        }
        System.out.println(String.join(",", seen));
    }

    private static HttpRequest post(URI url, BodyPublisher body) {
        return HttpRequest.newBuilder(url).POST(body).build();
    }

    private static String told(HttpClient client, HttpRequest request) throws Exception {
        try {
            return Integer.toString(countersign.send(client, request, BodyHandlers.ofString()).statusCode());
        } catch (IllegalArgumentException error) {
            return error.getMessage();
        }
    }
}
