package androidx.test.runner.lifecycle;

public final class ActivityLifecycleMonitorRegistry {
    private static ActivityLifecycleMonitor monitor;

    public static ActivityLifecycleMonitor getInstance() {
        if (monitor == null) throw new IllegalStateException("no monitor is registered");
        return monitor;
    }

    public static void registerInstance(ActivityLifecycleMonitor registered) {
        monitor = registered;
    }
}
