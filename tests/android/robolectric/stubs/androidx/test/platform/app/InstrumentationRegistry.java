package androidx.test.platform.app;

import android.app.Instrumentation;
import android.os.Bundle;

public final class InstrumentationRegistry {
    private static volatile Instrumentation instrumentation;
    private static volatile Bundle arguments;

    public static Instrumentation getInstrumentation() {
        if (instrumentation == null) throw new IllegalStateException("no instrumentation is registered");
        return instrumentation;
    }

    public static Bundle getArguments() {
        return new Bundle(arguments);
    }

    public static void registerInstance(Instrumentation registered, Bundle with) {
        instrumentation = registered;
        arguments = new Bundle(with);
    }
}
