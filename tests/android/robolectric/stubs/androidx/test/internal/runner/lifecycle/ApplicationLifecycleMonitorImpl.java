package androidx.test.internal.runner.lifecycle;

import androidx.test.runner.lifecycle.*;

public final class ApplicationLifecycleMonitorImpl implements ApplicationLifecycleMonitor {
    public void signalLifecycleChange(android.app.Application application, ApplicationStage stage) {}
}
