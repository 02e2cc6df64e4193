// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _378 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _381 = (THREADS * TOKENS);
constant uint _382 = (_381 * 2u);
constant uint _407 = (64u * TOKENS);
constant uint _443 = (64u * TOKENS);
constant bool _499 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
    uint residual_stride;
};

constant uint _568 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _669 = (TOKENS * 2u);
constant bool _701 = (TOKENS >= 4u);
constant bool _703 = (_701 && true);
constant int _704 = _703 ? 2 : 4;
constant uint _705 = (uint(_704) + 0u);
constant bool _761 = (TOKENS >= 4u);
constant bool _762 = (_761 && true);
constant int _763 = _762 ? 2 : 4;
constant uint _764 = (uint(_763) + 0u);

struct X
{
    float4 x[1];
};

constant bool _884 = (TOKENS >= 4u);
constant bool _885 = (_884 && true);
constant int _886 = _885 ? 2 : 4;
constant uint _887 = (uint(_886) + 0u);
constant uint _888 = (_887 * THREADS);

struct Bias
{
    float bias0[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _965 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_965, 1u, 1u);

kernel void linear_int8(constant Push& p [[buffer(0)]], const device Weights& _103 [[buffer(1)]], const device X& _827 [[buffer(2)]], device Y& _594 [[buffer(3)]], const device Bias& _918 [[buffer(4)]], const device Step& _507 [[buffer(5)]], const device Residual& _942 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_382];
    threadgroup float chunk_sums[_443];
    do
    {
        uint _497 = gl_WorkGroupID.z * TOKENS;
        uint _1354;
        if (_499)
        {
            _1354 = 1u;
        }
        else
        {
            _1354 = _507.step_[0];
        }
        uint _1355;
        if ((p.flags & 2u) != 0u)
        {
            _1355 = _507.step_[2];
        }
        else
        {
            _1355 = 0u;
        }
        if (_497 >= _1354)
        {
            break;
        }
        uint _546 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _551 = _497 + (gl_LocalInvocationID.x / 8u);
        uint _561 = gl_WorkGroupID.y * p.y_group;
        uint _564 = ((_551 * p.y_stride) + _561) + _546;
        bool _569 = gl_LocalInvocationID.x < _568;
        bool _577;
        if (_569)
        {
            _577 = _546 < p.rows;
        }
        else
        {
            _577 = _569;
        }
        bool _580 = _551 < _1354;
        bool _581 = _577 && _580;
        if ((_497 + TOKENS) <= _1355)
        {
            if (_581)
            {
                _594.y[_564] = 0.0;
            }
            break;
        }
        uint _613 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1356 = 0u; _1356 < TOKENS; )
        {
            x_at[_1356] = ((_497 + _1356) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1356++;
            continue;
        }
        uint _645 = _1354 - _497;
        uint _652 = gl_LocalInvocationID.x % 8u;
        uint _1002 = ((p.cols + 7u) / 8u) * 4u;
        uint _980 = _613 + _1002;
        uint _982 = _652 / 2u;
        uint _1357;
        if ((_652 & 1u) == 0u)
        {
            _1357 = ((device uint*)&_103.weights[_980])[_982] & 65535u;
        }
        else
        {
            _1357 = ((device uint*)&_103.weights[_980])[_982] >> uint(16);
        }
        uint _1011 = _1357 & 32767u;
        uint _1013 = _1011 << uint(13);
        float _1028 = (_1011 < 1024u) ? (as_type<float>(947912704u | _1013) - 6.103515625e-05) : as_type<float>(_1013 + ((_1011 < 31744u) ? 939524096u : 1879048192u));
        float _1358;
        if ((_1357 & 32768u) != 0u)
        {
            _1358 = -_1028;
        }
        else
        {
            _1358 = _1028;
        }
        float _661 = spvFMul(p.scale, _1358);
        float acc[16];
        for (uint _1359 = 0u; _1359 < _669; )
        {
            acc[_1359] = 0.0;
            _1359++;
            continue;
        }
        uint _1360;
        _1360 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        bool _691;
        for (;;)
        {
            _691 = _1360 < _1002;
            if (_691)
            {
                bool _706 = 0u < _705;
                bool _715;
                if (_706)
                {
                    _715 = _691;
                }
                else
                {
                    _715 = _706;
                }
                if (_715)
                {
                    uint4 _1350[1] = { _103.weights[_613 + _1360] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1350);
                }
                bool _1498 = 1u < _705;
                bool _1504;
                if (_1498)
                {
                    _1504 = (_1360 + THREADS) < _1002;
                }
                else
                {
                    _1504 = _1498;
                }
                if (_1504)
                {
                    uint4 _1511[1] = { _103.weights[_613 + (_1360 + THREADS)] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1511);
                }
                bool _1521 = 2u < _705;
                bool _1527;
                if (_1521)
                {
                    _1527 = (_1360 + (2u * THREADS)) < _1002;
                }
                else
                {
                    _1527 = _1521;
                }
                if (_1527)
                {
                    uint4 _1534[1] = { _103.weights[_613 + (_1360 + (2u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1534);
                }
                bool _1544 = 3u < _705;
                bool _1550;
                if (_1544)
                {
                    _1550 = (_1360 + (3u * THREADS)) < _1002;
                }
                else
                {
                    _1550 = _1544;
                }
                if (_1550)
                {
                    uint4 _1557[1] = { _103.weights[_613 + (_1360 + (3u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1557);
                }
                for (uint _1371 = 0u; _1371 < 4u; _1371++)
                {
                    uint _759 = _1360 + (_1371 * THREADS);
                    if ((_1371 >= _764) || (_759 >= _1002))
                    {
                        continue;
                    }
                    uint _1089 = raw[_1371][0].x ^ 2155905152u;
                    float _1112 = as_type<float>((_1089 & 255u) | 1258291200u) - 8388736.0;
                    float _1120 = as_type<float>(((_1089 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1128 = as_type<float>(((_1089 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1136 = as_type<float>((_1089 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1569 = raw[_1371][0].y ^ 2155905152u;
                    float _1573 = as_type<float>((_1569 & 255u) | 1258291200u) - 8388736.0;
                    float _1578 = as_type<float>(((_1569 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1583 = as_type<float>(((_1569 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1587 = as_type<float>((_1569 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1599 = raw[_1371][0].z ^ 2155905152u;
                    float _1603 = as_type<float>((_1599 & 255u) | 1258291200u) - 8388736.0;
                    float _1608 = as_type<float>(((_1599 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1613 = as_type<float>(((_1599 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1617 = as_type<float>((_1599 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1629 = raw[_1371][0].w ^ 2155905152u;
                    float _1633 = as_type<float>((_1629 & 255u) | 1258291200u) - 8388736.0;
                    float _1638 = as_type<float>(((_1629 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1643 = as_type<float>(((_1629 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1647 = as_type<float>((_1629 >> uint(24)) | 1258291200u) - 8388736.0;
                    for (uint _1375 = 0u; _1375 < TOKENS; _1375 += 4u)
                    {
                        if ((_1375 != 0u) && (_1375 >= _645))
                        {
                            continue;
                        }
                        for (uint _1376 = _1375; _1376 < (_1375 + 4u); _1376++)
                        {
                            if (_1376 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1141 = (_759 >> uint(2)) * 2u;
                            uint _836 = x_at[_1376] + _1141;
                            uint _1662 = x_at[_1376] + (_1141 + 1u);
                            uint _861 = _1376 * 2u;
                            acc[_861] = spvFAdd(acc[_861], fma(_1587, _827.x[_1662].w, fma(_1583, _827.x[_1662].z, fma(_1578, _827.x[_1662].y, fma(_1573, _827.x[_1662].x, fma(_1136, _827.x[_836].w, fma(_1128, _827.x[_836].z, fma(_1120, _827.x[_836].y, spvFMul(_1112, _827.x[_836].x)))))))));
                            uint _1741 = _861 + 1u;
                            acc[_1741] += fma(_1647, _827.x[_1662].w, fma(_1643, _827.x[_1662].z, fma(_1638, _827.x[_1662].y, fma(_1633, _827.x[_1662].x, fma(_1617, _827.x[_836].w, fma(_1613, _827.x[_836].z, fma(_1608, _827.x[_836].y, _1603 * _827.x[_836].x)))))));
                        }
                    }
                }
                _1360 += _888;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1361 = 0u; _1361 < _378; )
        {
            partial[(_1361 * THREADS) + gl_LocalInvocationID.x] = param[_1361];
            _1361++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1362 = gl_LocalInvocationID.x; _1362 < _407; _1362 += THREADS)
        {
            uint _1286 = (((_1362 / 32u) * THREADS) + ((_1362 / 8u) % 4u)) + (4u * (_1362 % 8u));
            float _1369;
            _1369 = partial[_1286];
            for (uint _1367 = 32u; _1367 < THREADS; )
            {
                _1369 = spvFAdd(_1369, partial[_1286 + _1367]);
                _1367 += 32u;
                continue;
            }
            chunk_sums[_1362] = _1369;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_581)
        {
            break;
        }
        uint _1327 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_652 % 2u)) * 4u) + _982) * 8u;
        float _908 = spvFMul((((((spvFAdd(chunk_sums[_1327], chunk_sums[_1327 + 1u]) + chunk_sums[_1327 + 2u]) + chunk_sums[_1327 + 3u]) + chunk_sums[_1327 + 4u]) + chunk_sums[_1327 + 5u]) + chunk_sums[_1327 + 6u]) + chunk_sums[_1327 + 7u], _661);
        float _1365;
        if ((p.flags & 1u) != 0u)
        {
            _1365 = spvFAdd(_908, _918.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _546]);
        }
        else
        {
            _1365 = _908;
        }
        float _1366;
        if ((p.flags & 4u) != 0u)
        {
            _1366 = spvFAdd(_1365, _942.residual[((_551 * p.residual_stride) + _561) + _546]);
        }
        else
        {
            _1366 = _1365;
        }
        _594.y[_564] = (_551 < _1355) ? 0.0 : _1366;
        break;
    } while(false);
}

