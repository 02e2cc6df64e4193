package androidx.test.internal.platform.util;

public final class TestOutputEmitter {
    public static void dumpThreadStates(String file) {}
}
