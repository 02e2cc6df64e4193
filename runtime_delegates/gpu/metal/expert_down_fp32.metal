// Written by build_shaders.py from shaders/expert_down.comp; do not edit. Compile without fast math.
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
constant uint _323 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _326 = (THREADS * TOKENS);
constant uint _327 = (_326 * 4u);
constant uint _352 = (64u * TOKENS);
constant uint _389 = (64u * TOKENS);
constant bool _441 = (TOKENS > 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint experts;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint all_experts;
    uint classes;
    uint flags;
    uint residual_stride;
};

constant uint _503 = (TOKENS * 4u);

struct Route
{
    uint route[1];
};

constant uint _620 = (1u << TOKENS);
constant uint _621 = (_620 - 1u);
constant uint _634 = (64u * TOKENS);
constant bool _725 = (TOKENS == 1u);
constant int _726 = _725 ? 4 : 4;
constant uint _727 = (uint(_726) + 0u);
constant bool _745 = (TOKENS == 1u);
constant bool _800 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _852 = (TOKENS == 1u);
constant int _853 = _852 ? 4 : 4;
constant uint _854 = (uint(_853) + 0u);
constant bool _859 = (TOKENS != 1u);
constant bool _895 = (TOKENS != 1u);
constant bool _950 = (TOKENS == 1u);
constant bool _1065 = (TOKENS == 1u);
constant int _1066 = _1065 ? 4 : 4;
constant uint _1067 = (uint(_1066) + 0u);
constant uint _1092 = (8u * TOKENS);

struct Y
{
    float y[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1163 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1163, 1u, 1u);

kernel void expert_down_fp32(constant Push& p [[buffer(0)]], const device Weights& _138 [[buffer(1)]], const device X& _819 [[buffer(2)]], device Y& _1132 [[buffer(3)]], const device Route& _522 [[buffer(4)]], const device Step& _448 [[buffer(5)]], const device Residual& _1148 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_327];
    threadgroup float chunk_sums[_389];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_634];
    do
    {
        uint _440 = gl_WorkGroupID.y * TOKENS;
        bool _453;
        if (_441)
        {
            _453 = _440 >= _448.step_[0];
        }
        else
        {
            _453 = _441;
        }
        if (_453)
        {
            break;
        }
        uint _1174 = ((p.cols + 3u) / 4u) * 2u;
        uint _471 = THREADS / p.classes;
        uint _475 = gl_LocalInvocationID.x / _471;
        uint _479 = 64u / p.classes;
        uint _1182 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _495 = 16u + ((_1182 * p.classes) * 4u);
        float acc[32];
        for (uint _1500 = 0u; _1500 < _503; )
        {
            acc[_1500] = 0.0;
            _1500++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _522.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[4][4];
        float4 hidden[4][1];
        float _1277[4];
        uint _1512;
        for (uint _1501 = 0u, _1513 = 1u; _1501 < _1174; _1513 = _1512, _1501 += _471)
        {
            _1512 = _1513;
            uint _1571;
            for (uint _1511 = 0u; _1511 < _1512; _1512 = _1571, _1511 += _479)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1515;
                _1515 = gl_LocalInvocationID.x;
                for (; _1515 < 64u; _1515 += THREADS)
                {
                    uint _573 = ((_1515 / _479) * _1182) + min((_1511 + (_1515 % _479)), (_1182 - 1u));
                    uint _577 = 16u + (_573 * 4u);
                    uint _582 = _522.route[_577] - p.first_expert;
                    bool _591 = _582 < p.experts;
                    slot_expert[_1515] = _591 ? _582 : 0u;
                    uint _1573;
                    if (_591)
                    {
                        _1573 = (_522.route[_577 + uint((_440 < 32u) ? 1 : 2)] >> (_440 & 31u)) & _621;
                    }
                    else
                    {
                        _1573 = 0u;
                    }
                    slot_mask[_1515] = _1573;
                    for (uint _1574 = 0u; _1574 < TOKENS; )
                    {
                        slot_weight[(_1515 * TOKENS) + _1574] = as_type<float>(_522.route[((_495 + (_573 * 64u)) + _440) + _1574]);
                        _1574++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1571 = _1512;
                for (uint _1516 = 0u; _1516 < p.classes; )
                {
                    _1571 = max(_1571, counts[_1516]);
                    _1516++;
                    continue;
                }
                uint _680 = _1501 + (gl_LocalInvocationID.x % _471);
                uint _684 = _475 * _479;
                uint _1521;
                if ((_680 < _1174) && (counts[_475] > _1511))
                {
                    _1521 = min((counts[_475] - _1511), _479);
                }
                else
                {
                    _1521 = 0u;
                }
                for (uint _1522 = 0u; _1522 < _1521; _1522 += _1067)
                {
                    for (uint _1525 = 0u; _1525 < 4u; _1525++)
                    {
                        if (_1525 >= _727)
                        {
                            continue;
                        }
                        uint _736 = _1522 + _1525;
                        uint _740 = _684 + min(_736, (_1521 - 1u));
                        bool _761;
                        if (!_745)
                        {
                            bool _753 = _736 < _1521;
                            bool _760;
                            if (_753)
                            {
                                _760 = slot_mask[_740] != 0u;
                            }
                            else
                            {
                                _760 = _753;
                            }
                            _761 = _760;
                        }
                        else
                        {
                            _761 = _745;
                        }
                        if (_761)
                        {
                            uint _1189 = _680 >> uint(1);
                            uint _1190 = _1189 * 4u;
                            uint _1197 = (((p.first + (slot_expert[_740] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors)) + (_1189 * 8u)) + (_680 & 1u);
                            uint4 _1567;
                            if (_1190 < p.cols)
                            {
                                _1567 = _138.weights[_1197];
                            }
                            else
                            {
                                _1567 = uint4(0u);
                            }
                            uint4 _1767;
                            if ((_1190 + 1u) < p.cols)
                            {
                                _1767 = _138.weights[_1197 + 2u];
                            }
                            else
                            {
                                _1767 = uint4(0u);
                            }
                            uint4 _1785;
                            if ((_1190 + 2u) < p.cols)
                            {
                                _1785 = _138.weights[_1197 + 4u];
                            }
                            else
                            {
                                _1785 = uint4(0u);
                            }
                            uint4 _1803;
                            if ((_1190 + 3u) < p.cols)
                            {
                                _1803 = _138.weights[_1197 + 6u];
                            }
                            else
                            {
                                _1803 = uint4(0u);
                            }
                            uint4 _1999[4] = { _1567, _1767, _1785, _1803 };
                            spvArrayCopyFromStackToStack1(raw[_1525], _1999);
                        }
                        if (_800)
                        {
                            hidden[_1525][0u] = _819.x[(((p.first_expert + slot_expert[_740]) * 64u) * p.x_stride) + (_680 >> uint(1))];
                        }
                    }
                    for (uint _1526 = 0u; _1526 < 4u; _1526++)
                    {
                        bool _855 = _1526 >= _854;
                        bool _868;
                        if (!_855)
                        {
                            bool _867;
                            if (_859)
                            {
                                _867 = (_1522 + _1526) >= _1521;
                            }
                            else
                            {
                                _867 = _859;
                            }
                            _868 = _867;
                        }
                        else
                        {
                            _868 = _855;
                        }
                        if (_868)
                        {
                            continue;
                        }
                        uint _880 = _684 + min((_1522 + _1526), (_1521 - 1u));
                        uint _1533;
                        if ((_1522 + _1526) < _1521)
                        {
                            _1533 = slot_mask[_880];
                        }
                        else
                        {
                            _1533 = 0u;
                        }
                        if (_895 && (_1533 == 0u))
                        {
                            continue;
                        }
                        float4 _2008[4] = { float4(as_type<float>(raw[_1526][0].x), as_type<float>(raw[_1526][1].x), as_type<float>(raw[_1526][2].x), as_type<float>(raw[_1526][3].x)), float4(as_type<float>(raw[_1526][0].y), as_type<float>(raw[_1526][1].y), as_type<float>(raw[_1526][2].y), as_type<float>(raw[_1526][3].y)), float4(as_type<float>(raw[_1526][0].z), as_type<float>(raw[_1526][1].z), as_type<float>(raw[_1526][2].z), as_type<float>(raw[_1526][3].z)), float4(as_type<float>(raw[_1526][0].w), as_type<float>(raw[_1526][1].w), as_type<float>(raw[_1526][2].w), as_type<float>(raw[_1526][3].w)) };
                        uint _928 = ((p.first_expert + slot_expert[_880]) * 64u) + _440;
                        for (uint _1537 = 0u; _1537 < TOKENS; _1537++)
                        {
                            float4 _1557;
                            if (_950)
                            {
                                _1557 = hidden[_1526][0u];
                            }
                            else
                            {
                                _1557 = _819.x[(p.x_stride * (_928 + _1537)) + (_680 >> uint(1))];
                            }
                            float4 _1275[4];
                            spvArrayCopyFromStackToStack1(_1275, _2008);
                            for (uint _1540 = 0u; _1540 < 4u; )
                            {
                                _1277[_1540] = fma(_1275[_1540].w, _1557.w, fma(_1275[_1540].z, _1557.z, fma(_1275[_1540].y, _1557.y, spvFMul(_1275[_1540].x, _1557.x))));
                                _1540++;
                                continue;
                            }
                            uint _1010 = (_880 * TOKENS) + _1537;
                            uint _1033 = _1537 * 4u;
                            bool _1045 = (((_1533 >> _1537) & 1u) != 0u) && true;
                            float _1544;
                            if (_1045)
                            {
                                _1544 = fma(spvFMul(slot_weight[_1010], 1.0), _1277[0], acc[_1033]);
                            }
                            else
                            {
                                _1544 = acc[_1033];
                            }
                            acc[_1033] = _1544;
                            uint _1905 = _1033 + 1u;
                            float _1919;
                            if (_1045)
                            {
                                _1919 = fma(slot_weight[_1010], _1277[1], acc[_1905]);
                            }
                            else
                            {
                                _1919 = acc[_1905];
                            }
                            acc[_1905] = _1919;
                            uint _1934 = _1033 + 2u;
                            float _1948;
                            if (_1045)
                            {
                                _1948 = fma(slot_weight[_1010], _1277[2], acc[_1934]);
                            }
                            else
                            {
                                _1948 = acc[_1934];
                            }
                            acc[_1934] = _1948;
                            uint _1963 = _1033 + 3u;
                            float _1977;
                            if (_1045)
                            {
                                _1977 = fma(slot_weight[_1010], _1277[3], acc[_1963]);
                            }
                            else
                            {
                                _1977 = acc[_1963];
                            }
                            acc[_1963] = _1977;
                        }
                    }
                }
            }
        }
        float param[32];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1502 = 0u; _1502 < _323; )
        {
            partial[(_1502 * THREADS) + gl_LocalInvocationID.x] = param[_1502];
            _1502++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1503 = gl_LocalInvocationID.x; _1503 < _352; _1503 += THREADS)
        {
            uint _1426 = (((_1503 / 16u) * THREADS) + ((_1503 / 8u) % 2u)) + (2u * (_1503 % 8u));
            float _1510;
            _1510 = partial[_1426];
            for (uint _1508 = 16u; _1508 < THREADS; )
            {
                _1510 = spvFAdd(_1510, partial[_1426 + _1508]);
                _1508 += 16u;
                continue;
            }
            chunk_sums[_1503] = _1510;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1085 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1090 = _440 + (gl_LocalInvocationID.x / 8u);
        bool _1093 = gl_LocalInvocationID.x >= _1092;
        bool _1102;
        if (!_1093)
        {
            _1102 = _1085 >= p.rows;
        }
        else
        {
            _1102 = _1093;
        }
        if (_1102)
        {
            break;
        }
        uint _1113 = (_1090 * p.y_stride) + _1085;
        uint _1118 = gl_LocalInvocationID.x % 8u;
        uint _1467 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1118 % 4u)) * 2u) + (_1118 / 4u)) * 8u;
        float _1750 = (((((spvFAdd(chunk_sums[_1467], chunk_sums[_1467 + 1u]) + chunk_sums[_1467 + 2u]) + chunk_sums[_1467 + 3u]) + chunk_sums[_1467 + 4u]) + chunk_sums[_1467 + 5u]) + chunk_sums[_1467 + 6u]) + chunk_sums[_1467 + 7u];
        float _1506;
        if ((p.flags & 1u) != 0u)
        {
            _1506 = spvFAdd(_1750, _1132.y[_1113]);
        }
        else
        {
            _1506 = _1750;
        }
        float _1507;
        if ((p.flags & 2u) != 0u)
        {
            _1507 = spvFAdd(_1506, _1148.residual[(_1090 * p.residual_stride) + _1085]);
        }
        else
        {
            _1507 = _1506;
        }
        _1132.y[_1113] = _1507;
        break;
    } while(false);
}

