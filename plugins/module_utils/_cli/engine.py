# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a list of imports that are never made: AnsiballZ ships with a module what it finds imported.

Written by tests/unit/module_utils/cli/test_engine.py.
"""

# ruff: noqa: F401

from __future__ import annotations


def _floor() -> None:
    from .. import (
        _errors,
        _paths,
    )


def _cgroup() -> None:
    from .._cgroup import (
        cpuset,
        devices,
        files,
        hugetlb,
        manager,
        offers,
        pids,
        pressure,
        systemd,
        throttle,
    )


def _cgroup_v1() -> None:
    from .._cgroup.v1 import (
        blkio,
        cpu,
        cpuacct,
        cpuset,
        devices,
        freezer,
        manager,
        memory,
        network,
    )


def _cgroup_v2() -> None:
    from .._cgroup.v2 import (
        blkio,
        cpu,
        cpuset,
        devices,
        freezer,
        manager,
        memory,
        protection,
    )


def _cli() -> None:
    from . import (
        ask,
        callers,
        cp,
        daemon,
        engine,
        follow,
        install,
        main,
        options,
        output,
        presence,
        resources,
        runtime,
        runtime_verbs,
        serve,
        service,
        show,
        streaming,
        terminal,
        version,
        vessel,
    )


def _converge() -> None:
    from .._converge import (
        copying,
        drain_mark,
        draining,
        execute,
        files,
        firewall,
        history,
        host,
        host_capacity,
        host_info,
        host_lacks,
        inside,
        jobs,
        logs,
        networks,
        placing,
        plan,
        processes,
        prune,
        restore,
        running,
        secrets,
        stacks,
        store,
        users,
        volume_checks,
        volumes,
    )


def _converge_container() -> None:
    from .._converge.container import (
        aliases,
        attach,
        checks,
        compile,
        containers,
        drift,
        identity,
        labels,
        lifecycle,
        live,
        observe,
        prepare,
        security,
        succession,
        together,
    )


def _converge_image() -> None:
    from .._converge.image import (
        building,
        builds,
        exports,
        facts,
        images,
        recipes,
        registries,
        sources,
        steps,
    )


def _image() -> None:
    from .._image import (
        accounts,
        acl,
        ahead,
        apply,
        archive,
        attributes,
        busybox,
        child,
        commit,
        compare,
        compress,
        config,
        copy,
        debian,
        diff,
        directory,
        headers,
        housekeeping,
        layer,
        layout,
        manifest,
        member,
        nosync,
        pack,
        pax,
        progress,
        record,
        reference,
        rootfs,
        store,
        tarball,
        tarstream,
        template,
        tree,
        ustar,
        verify,
        view,
        writers,
        zstd,
    )


def _image_build() -> None:
    from .._image.build import (
        fetch,
        ignore,
        known,
        layers,
        make,
        mounts,
        plan,
        steps,
        tree,
        unpack,
    )


def _image_containerfile() -> None:
    from .._image.containerfile import (
        compile,
        instructions,
        mounts,
        outline,
        source,
        words,
    )


def _image_registry() -> None:
    from .._image.registry import (
        auth,
        blob,
        client,
        endpoint,
        keychain,
        parallel,
        pull,
        push,
        session,
        signature,
        transport,
    )


def _kernel() -> None:
    from .._kernel import (
        apparmor,
        bpf,
        caps,
        cn_proc,
        copy_file_range,
        errand,
        exe,
        ext4,
        fallocate,
        file,
        inotify,
        kmsg,
        libc,
        loop,
        mount,
        namespaces,
        netdevice,
        openat2,
        overlay,
        pidfd,
        probe,
        proc_pid_net,
        process,
        sd_bus,
        sd_notify,
        seccomp,
        selinux,
        syncfs,
        xfs,
    )


def _monitor() -> None:
    from .._monitor import (
        adopt,
        checking,
        client,
        connection,
        container,
        ending,
        errands,
        exits,
        guard,
        health,
        holding,
        host,
        lease,
        leases,
        logs,
        loop,
        probe,
        process,
        protocol,
        restart,
        rotating,
        rotation,
        server,
        settings,
        starting,
        status,
        waiting,
    )


def _network() -> None:
    from .._network import (
        bridge,
        conntrack,
        dump,
        ipam,
        library,
        model,
        names,
        nft_compare,
        nft_replace,
        nft_words,
        nftables,
        observe,
        policy,
        ports,
        rtnl,
        sandbox,
        segment,
        veth,
        vxlan,
    )


def _options() -> None:
    from .._options import (
        allow,
        container,
        image,
        limits,
        network,
        parse,
        record,
        sent,
        stack,
        volume,
        vxlan,
    )


def _rootfs() -> None:
    from .._rootfs import (
        cgroups,
        copyup,
        devices,
        ops,
        options,
        plan,
        protect,
        remount,
        target,
    )


def _runtime() -> None:
    from .._runtime import (
        bundle,
        channel,
        console,
        create,
        delete,
        exec,
        gate,
        hooks,
        init,
        kill,
        launch,
        pause,
        ps,
        run,
        spawn,
        spec,
        start,
        state,
        stdio,
        update,
        validate,
    )


def _volume() -> None:
    from .._volume import (
        directory,
        filesystem,
        loop,
        model,
        mount,
        tmpfs,
    )
